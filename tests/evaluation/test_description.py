# SPDX-License-Identifier: Apache-2.0
"""Descriptions of the full-size entries against published counts."""

import pytest

from dcae.benchmark import Config, ConfigError
from dcae.benchmark.entries import SpaceToChannelEntry
from evaluation.description import describe_autoencoder


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
