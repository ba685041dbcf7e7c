# SPDX-License-Identifier: Apache-2.0
"""Parity with diffusers' AutoencoderDC in both directions and in training, cost, and what other shortcuts do."""

import pytest
import torch
from diffusers import AutoencoderDC
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dcae.autoencoders.dc_ae_blocks import BLOCKS
from dcae.autoencoders.loading import load, save
from dcae.benchmark import ConfigError
from tests.autoencoders.small import Operators, dc_ae

VARIANTS = {
    "in and mix": dc_ae(),
    "multi-scale": dc_ae({"encoder_multiscale": [[], [], [5], [3, 5]], "decoder_multiscale": [[], [], [5], []]}),
    "sana": dc_ae(
        {"encoder_depths": [1, 1, 1, 1], "decoder_depths": [1, 1, 1, 1], "decoder_norms": ["RMSNorm"] * 4},
        downsample="strided-conv",
        upsample="interpolate",
    ),
    "lite": dc_ae(
        {"encoder_depths": [1, 1, 1, 1], "decoder_blocks": ["ResBlock"] * 4, "decoder_norms": ["RMSNorm"] * 4},
        decoder_output_act="SiLU",
    ),
}

# fp32 sums in another order through some twenty layers differ by about 1e-6; a wrong operation by far more than 1e-4.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(params=VARIANTS)
def ours(request):
    torch.manual_seed(0)  # images too: rounding shows where all queries of a pixel are next to zero
    autoencoder = load(VARIANTS[request.param], seed=1)
    for norm in autoencoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # statistics as after a training, so that they matter
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return autoencoder


def compare(ours, theirs):
    for side in (16, 64):  # 2x2 and 8x8 latents: quadratic and linear attention with heads of 8
        images = torch.rand(2, 3, side, side) * 2 - 1
        with torch.no_grad():
            latents = ours.encode(images)
            torch.testing.assert_close(latents, theirs.encode(images).latent, **CLOSE)
            torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).sample, **CLOSE)


def test_saved_folder_opens_in_diffusers(ours, tmp_path):
    ours.latent_scale = 0.37
    save(ours, tmp_path)
    theirs = AutoencoderDC.from_pretrained(tmp_path).eval()
    assert theirs.config.scaling_factor == 0.37
    compare(ours, theirs)


def test_folder_saved_by_diffusers_opens_here(ours, tmp_path):
    save(ours, tmp_path / "ours")
    theirs = AutoencoderDC.from_config(AutoencoderDC.load_config(tmp_path / "ours")).eval()
    theirs.register_to_config(scaling_factor=0.41)
    theirs.save_pretrained(tmp_path / "theirs")
    again = load(ours.entry, weights=tmp_path / "theirs")
    assert again.latent_scale == 0.41
    compare(again, theirs)


def test_training_step_equals_that_of_diffusers(ours, tmp_path):
    save(ours, tmp_path)
    theirs = AutoencoderDC.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    reconstructions = ours.train()(images), theirs.train()(images).sample
    for reconstruction in reconstructions:
        (reconstruction - images).abs().mean().backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5, msg=name)
    statistics = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], **CLOSE)


def test_every_layer_keeps_channels_last(ours):
    layouts = {}
    for name, module in ours.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: layouts.update(
                {name: out.dim() < 4 or out.is_contiguous(memory_format=torch.channels_last)}
            )
        )
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with Operators() as operators, torch.no_grad():
        ours.decode(ours.encode(images))
    assert [name for name, kept in layouts.items() if not kept] == []
    # On a CPU these keep the layout, on CUDA they do not.
    assert not operators.called & {torch.ops.aten.pixel_shuffle, torch.ops.aten.pixel_unshuffle}


@pytest.mark.parametrize(
    ("name", "encode", "decode"), [("dc-ae-f32c32", 260.7, 346.2), ("dc-ae-f64c128", 263.2, 349.6)]
)
def test_cost_at_256_px_is_that_of_the_released_models(name, encode, decode):
    autoencoder = load(name, device="meta")
    with FlopCounterMode(display=False) as encoding:
        latents = autoencoder.encode(torch.empty(1, 3, 256, 256, device="meta"))
    with FlopCounterMode(display=False) as decoding:
        autoencoder.decode(latents)
    assert round(encoding.get_total_flops() / 2e9, 1) == encode  # two FLOPs are one MAC
    assert round(decoding.get_total_flops() / 2e9, 1) == decode


@pytest.mark.parametrize("shortcut", ["paper-text", "none"])
def test_other_shortcuts_keep_the_parameters_and_change_the_function(shortcut, tmp_path):
    released, other = load(dc_ae()), load(dc_ae(shortcut=shortcut))
    other.load_state_dict(released.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(released.encode(images), other.encode(images), atol=1e-2)
    assert not torch.allclose(
        released.decode(released.encode(images)), other.decode(released.encode(images)), atol=1e-2
    )


def test_without_shortcuts_nothing_passes_zero_convolutions():
    for shortcut, passes in (("released-code", True), ("paper-text", True), ("none", False)):
        autoencoder = load(dc_ae(shortcut=shortcut))
        for name, parameter in autoencoder.named_parameters():
            if (name.endswith("conv.weight") and "conv_in" not in name) or name == "encoder.conv_out.weight":
                torch.nn.init.zeros_(parameter)
        black, white = autoencoder.encode(torch.stack([-torch.ones(3, 16, 16), torch.ones(3, 16, 16)]))
        assert (not torch.equal(black, white)) == passes


def test_same_seed_same_weights_and_the_callers_random_numbers_stay():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second, other = load(dc_ae(), seed=5), load(dc_ae(), seed=5), load(dc_ae(), seed=6)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.encoder.conv_out.weight, second.encoder.conv_out.weight)
    assert not torch.equal(first.encoder.conv_out.weight, other.encoder.conv_out.weight)


def test_all_blocks_begin_as_the_identity_if_the_entry_says_so():
    torch.manual_seed(0)
    autoencoder = load(dc_ae(zero_init_residual=True))
    blocks = [*autoencoder.encoder.blocks(), *autoencoder.decoder.blocks()]
    of_stages = [block for block in blocks if isinstance(block, BLOCKS)]
    assert of_stages
    for block in of_stages:
        module = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
        x = torch.randn(1, module.in_channels, 4, 4)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("stages", "fields", "message"),
    [
        ({"encoder_depths": [0, 1, 0, 1]}, {}, "depth 0 is for the first alone"),
        ({}, {"head_dim": 12}, "head_dim"),
        ({"widths": [16, 16, 32, 24]}, {"latent_channels": 8}, "down block: 128 channels"),
        ({}, {"latent_channels": 12}, "latent head"),
    ],
)
def test_widths_and_depths_that_do_not_fit_are_named(stages, fields, message):
    with pytest.raises(ConfigError, match=message):
        load(dc_ae(stages, **fields))
