# SPDX-License-Identifier: Apache-2.0
"""Counts of a model against counts by hand and published parameters and GMACs."""

import pytest
import torch
from torch import nn

from dcae.autoencoders.loading import load
from dcae.benchmark import Config, ConfigError
from dcae.benchmark.entries import DiffusionEntry, SpaceToChannelEntry
from dcae.diffusion.models.build import build_denoiser
from dcae.training.layers import freeze_all_but
from evaluation.efficiency.cost import (
    bytes_kept_for_backward,
    count_macs,
    count_parameters,
    count_parameters_used,
    describe_autoencoder,
)
from tests.training import tiny


def test_what_a_backward_pass_needs_is_counted_once():
    x = torch.randn(4, 8, requires_grad=True)
    layer = nn.Linear(8, 8)
    assert bytes_kept_for_backward(lambda: layer(x)) == x.numel() * 4  # the weight is there anyway
    assert bytes_kept_for_backward(lambda: layer(x) + layer(x)) == x.numel() * 4
    assert bytes_kept_for_backward(lambda: layer(x).exp()) == 2 * x.numel() * 4


@pytest.mark.parametrize("trains", ["all", "middle"])
def test_on_the_meta_device_the_count_is_the_same(trains):
    kept = {}
    for device in ("cpu", "meta"):
        autoencoder = load(tiny.dc_ae(), device=device)
        freeze_all_but(autoencoder, trains)
        images = torch.zeros(2, 3, 32, 32, device=device)
        kept[device] = bytes_kept_for_backward(lambda model=autoencoder, batch=images: model(batch))
    assert kept["meta"] == kept["cpu"] > 0


def test_without_a_backward_pass_there_is_nothing_to_count():
    with pytest.raises(ValueError, match="no backward pass"):
        bytes_kept_for_backward(lambda: nn.Linear(8, 8).requires_grad_(False)(torch.randn(1, 8)))


# --- parameters and multiply-accumulates ---


def model(kind: str, depth: int, width: int, heads: int) -> DiffusionEntry:
    sampler = {"recipe": "none", "sampler": "dpm-solver++", "sampling_steps": 30, "guidance_scale": 1.5}
    return DiffusionEntry(name="model", kind=kind, depth=depth, width=width, heads=heads, **sampler)


UVIT_S, UVIT_H = model("u-vit", 12, 512, 8), model("u-vit", 28, 1152, 16)
UVIT_2B = model("u-vit", 28, 2048, 32)
DIT_S, DIT_XL = model("dit", 12, 384, 6), model("dit", 28, 1152, 16)


# The official README's counts of the rows of Table 3 (512 px, 1000 classes), and Table 4's (1024 px, unconditional).
@pytest.mark.parametrize(
    ("entry", "channels", "size", "patch_size", "classes", "millions", "gmacs"),
    [
        (UVIT_S, 4, 64, 2, 1000, 45.166, 59.22),
        (UVIT_S, 32, 16, 1, 1000, 44.789, 12.26),
        (UVIT_S, 128, 8, 1, 1000, 44.789, 2.97),
        (UVIT_H, 32, 16, 1, 1000, 500.869, 133.2),
        (UVIT_H, 128, 8, 1, 1000, 500.869, 33.24),
        (UVIT_2B, 128, 8, 1, 1000, 1580.397, 104.6),
        (DIT_XL, 4, 64, 2, 1000, 674.835, 524.5),
        (DIT_XL, 32, 16, 1, 1000, 674.890, 118.6),
        (DIT_S, 128, 16, 1, 0, 32.610, 6.09),
        (DIT_S, 4, 128, 2, 0, 32.481, 241.7),
    ],
)
def test_parameters_and_macs_of_published_pairings(entry, channels, size, patch_size, classes, millions, gmacs):
    with torch.device("meta"):
        denoiser = build_denoiser(entry, channels, size, patch_size, classes)
        inputs = torch.empty(1, channels, size, size), torch.empty(1), torch.zeros(1, dtype=torch.long)
    assert count_parameters(denoiser) / 1e6 == pytest.approx(millions, abs=0.0006)
    assert count_macs(denoiser, *inputs) / 1e9 == pytest.approx(gmacs, rel=0.002)  # published to 3 or 4 digits


def test_macs_of_layers_by_hand():
    with torch.device("meta"):
        linear, convolution = nn.Linear(10, 20), nn.Conv2d(4, 8, 3, padding=1, groups=2)
        query = torch.empty(2, 3, 16, 8)  # two samples, three heads, 16 tokens
    assert count_macs(linear, torch.empty(5, 10, device="meta")) == 5 * 10 * 20
    assert count_macs(convolution, torch.empty(1, 4, 6, 6, device="meta")) == 36 * 8 * 2 * 9
    attention = nn.functional.scaled_dot_product_attention
    assert count_macs(attention, query, query, query) == 2 * (2 * 3 * 16 * 16 * 8)


def test_macs_are_refused_where_attention_would_count_as_nothing():
    with pytest.raises(ValueError, match="meta device"):
        count_macs(nn.Linear(2, 2), torch.zeros(1, 2))


def test_parameters_used_by_a_method():
    network = nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Linear(3, 4)})
    assert count_parameters_used(network, network["first"], torch.zeros(1, 2)) == 9
    assert count_parameters(network) == 9 + 16


# --- descriptions of entries ---


def describe(name: str, resolution: int) -> dict:
    return describe_autoencoder(Config().entry("autoencoders", name), resolution)


# Parameters: the weight files; GMACs at 256 px: counted once with another tool, to one decimal.
@pytest.mark.parametrize(
    ("name", "shape", "encoder", "decoder", "encode_gmacs", "decode_gmacs"),
    [
        ("dc-ae-f32c32", [32, 8, 8], 123_172_384, 200_184_076, 260.7, 346.2),
        ("dc-ae-f64c128", [128, 4, 4], 264_550_528, 412_345_612, 263.2, 349.6),
        ("dc-ae-f128c512", [512, 2, 2], 415_661_056, 705_021_196, 263.8, 350.7),
        ("sd-vae-f8", [4, 32, 32], 34_163_664, 49_490_199, 136.4, 311.1),
    ],
)
def test_full_size_autoencoders(name, shape, encoder, decoder, encode_gmacs, decode_gmacs):
    found = describe(name, 256)
    assert found["latent_shape"] == shape
    assert found["encoder_parameters"] == encoder
    assert found["decoder_parameters"] == decoder
    assert found["parameters"] == encoder + decoder
    assert found["encode_gmacs"] == pytest.approx(encode_gmacs, abs=0.06)
    assert found["decode_gmacs"] == pytest.approx(decode_gmacs, abs=0.06)


def test_cost_follows_the_resolution():
    assert describe("dc-ae-f64c128", 512)["encode_gmacs"] == pytest.approx(1052.6, abs=0.06)
    assert describe("dc-ae-f64c128", 512)["latent_shape"] == [128, 8, 8]


def test_space_to_channel_costs_what_the_autoencoder_below_costs():
    entry = SpaceToChannelEntry(
        name="stacked",
        kind="space-to-channel",
        autoencoder="sd-vae-f8",
        factor=2,
        spatial_compression=16,
        latent_channels=16,
    )
    below, found = describe("sd-vae-f8", 64), describe_autoencoder(entry, 64)
    assert found["latent_shape"] == [16, 4, 4]
    assert {key: found[key] for key in found if key.endswith(("parameters", "gmacs"))} == {
        key: below[key] for key in below if key.endswith(("parameters", "gmacs"))
    }


def test_a_resolution_that_does_not_fit_is_an_error():
    with pytest.raises(ConfigError, match="spatial_compression 64"):
        describe("dc-ae-f64c128", 96)
