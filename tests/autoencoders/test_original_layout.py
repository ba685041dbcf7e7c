# SPDX-License-Identifier: Apache-2.0
"""The original layout of DC-AE weights, held against diffusers' own converter."""

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers

from dcae.autoencoders.loading import load
from dcae.autoencoders.original_layout import from_original, is_original, original_names, original_shapes, to_original
from tests.autoencoders.small import dc_ae

SANA = {
    "encoder_depths": [1, 1, 1, 1],
    "decoder_depths": [1, 1, 1, 1],
    "decoder_norms": ["RMSNorm"] * 4,
    "encoder_multiscale": [[], [], [5], [5]],
}
VARIANTS = {
    "in and mix": dc_ae(),
    "sana": dc_ae(
        {**SANA, "decoder_multiscale": [[], [], [5], [5]]}, downsample="strided-conv", upsample="interpolate"
    ),
    "lite": dc_ae(
        {**SANA, "decoder_depths": [0, 1, 2, 1], "decoder_blocks": ["ResBlock"] * 4},
        downsample="strided-conv",
        decoder_output_act="SiLU",
    ),
    "strided without first stage": dc_ae(downsample="strided-conv"),
}


@pytest.fixture(params=VARIANTS)
def autoencoder(request):
    autoencoder = load(VARIANTS[request.param], seed=2)
    for _, tensor in (*autoencoder.named_parameters(), *autoencoder.named_buffers()):
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor)  # no two alike
    return autoencoder


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_there_and_back_is_the_same(autoencoder):
    original = to_original(autoencoder)
    assert {name: tuple(tensor.shape) for name, tensor in original.items()} == original_shapes(autoencoder)
    assert equal(from_original(original, autoencoder), dict(autoencoder.state_dict()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_diffusers_converts_what_is_written_to_the_same(variant):
    autoencoder = load(VARIANTS[variant], seed=3)
    expected = dict(autoencoder.state_dict())
    converted = convert_autoencoder_dc_checkpoint_to_diffusers(to_original(autoencoder))
    # It knows no strided first layer, and takes the kind of the encoder's first layer for that of the decoder's last.
    for wrong, right in (("encoder.conv_in", "encoder.conv_in.conv"), ("decoder.conv_out", "decoder.conv_out.conv")):
        for parameter in ("weight", "bias"):
            if f"{right}.{parameter}" in expected and f"{wrong}.{parameter}" in converted:
                converted[f"{right}.{parameter}"] = converted.pop(f"{wrong}.{parameter}")
    assert equal(converted, expected)


def test_names_of_the_released_files():
    names = original_names(load("dc-ae-f32c32-in-1.0", device="meta"))
    for name in (  # that diffusers tells the released files by
        "encoder.project_in.conv.conv.bias",
        "decoder.project_in.main.conv.weight",
        "decoder.stages.1.op_list.0.main.conv.conv.bias",
    ):
        assert name in names
    sana = original_names(load("dc-ae-f32c32-sana-1.0", device="meta"))
    assert {"encoder.project_in.conv.bias", "decoder.stages.1.op_list.0.main.conv.conv.bias"} <= set(sana)
    assert sana["encoder.stages.3.op_list.0.context_module.main.aggreg.0.1.weight"] == [
        "encoder.down_blocks.3.0.attn.to_qkv_multiscale.0.proj_out.weight"
    ]


def test_a_layout_is_told_by_its_names(autoencoder):
    assert is_original(to_original(autoencoder)) is True
    assert is_original(autoencoder.state_dict()) is False
    assert is_original(["encoder.weight", "unet.conv_in.weight"]) is None
    assert is_original([*to_original(autoencoder), *autoencoder.state_dict()]) is None


def test_layers_that_the_original_code_does_not_have_are_named():
    blocks = ["ResBlock", "ResBlock", "ResBlock", "TransformerBlock"]
    autoencoder = load(dc_ae({"decoder_blocks": blocks}), device="meta")
    with pytest.raises(ValueError, match=r"decoder.up_blocks.3.0.block.norm1 has no counterpart"):
        original_names(autoencoder)
