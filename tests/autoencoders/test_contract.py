# SPDX-License-Identifier: Apache-2.0
"""The layers that phases 2 and 3 train."""

from __future__ import annotations

import pytest
import torch

from dcae.autoencoders.contract import decoder_head, middle_layers
from dcae.autoencoders.loading import load
from tests.autoencoders.small import dc_ae, kl


def parameters(layers):
    return sum(p.numel() for layer in layers for p in layer.parameters())


@pytest.mark.parametrize(
    ("name", "latent_heads"),
    [
        ("dc-ae-f32c32", 294_944 + 295_936),
        ("dc-ae-f64c128", 2_359_424 + 2_361_344),
        ("dc-ae-f128c512", 9_437_696 + 9_439_232),
    ],
)
def test_minimum_that_phases_2_and_3_train(name, latent_heads):
    autoencoder = load(name, device="meta")
    assert parameters(middle_layers(autoencoder)) == latent_heads
    assert parameters(decoder_head(autoencoder)) == 512 + 27_660


@pytest.mark.parametrize("entry", [dc_ae(), kl()], ids=["dc-ae", "AutoencoderKL"])
def test_all_blocks_and_heads_together_are_the_whole_but_the_image_layers(entry):
    autoencoder = load(entry)
    whole = getattr(autoencoder, "model", autoencoder)
    layers, count = middle_layers(autoencoder), 0
    while True:  # until there are no more blocks on one side
        try:
            layers = middle_layers(autoencoder, count)
            count += 1
        except ValueError:
            break
    names = {id(p): name for name, p in whole.named_parameters()}
    reached = {names[id(p)] for layer in layers for p in layer.parameters()}
    assert all(name.startswith(("encoder", "decoder", "quant", "post_quant")) for name in reached)
    assert {"encoder.conv_out.weight", "decoder.conv_in.weight"} <= reached
    left = {name for name in names.values() if name.startswith("encoder") and name not in reached}
    left = {name for name in left if "conv_in" not in name}
    right = {name for name in names.values() if name.startswith("decoder") and name not in reached}
    right -= {names[id(p)] for layer in decoder_head(autoencoder) for p in layer.parameters()}
    assert not left or not right


@pytest.mark.parametrize("entry", [dc_ae(), kl()], ids=["dc-ae", "AutoencoderKL"])
def test_extra_blocks_are_the_neighbours_in_the_order_of_running(entry):
    autoencoder = load(entry)
    ran = []
    for layer in autoencoder.modules():
        layer.register_forward_hook(lambda module, *_: ran.append(module))
    autoencoder(torch.rand(1, 3, 32, 32))
    for chosen in (middle_layers(autoencoder, 2), decoder_head(autoencoder, 2)):
        assert len(chosen) == len(set(map(id, chosen)))
        order = [ran.index(layer) for layer in chosen]
        assert order == sorted(order)
    assert len(middle_layers(autoencoder, 2)) == len(middle_layers(autoencoder)) + 4
    assert len(decoder_head(autoencoder, 2)) == len(decoder_head(autoencoder)) + 2


def test_errors():
    with pytest.raises(ValueError, match="extra_blocks must be between 0 and"):
        middle_layers(load(dc_ae()), 99)
    with pytest.raises(TypeError, match="Identity has no method middle_layers"):
        middle_layers(load("identity"))
    tiny = {"encoder_block_out_channels": [8] * 4, "decoder_block_out_channels": [8] * 4}
    entry = {"kind": "diffusers", "class": "AutoencoderTiny", "spatial_compression": 8, "latent_channels": 4}
    with pytest.raises(TypeError, match="decoder_head supports AutoencoderKL"):
        decoder_head(load({**entry, "config": tiny}))
