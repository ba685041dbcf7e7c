# SPDX-License-Identifier: Apache-2.0
"""Space to channel changes the shape of latents and nothing else."""

import pytest
import torch
import yaml

from dcae.autoencoders.contract import normalise
from dcae.autoencoders.loading import load, save
from dcae.benchmark import Config, ConfigError
from tests.autoencoders.small import dc_ae


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "config" / "autoencoders"
    folder.mkdir(parents=True)
    (folder / "below.yaml").write_text(yaml.safe_dump(dc_ae(latent_scale=[float(i) for i in range(1, 9)])))
    above = {"kind": "space-to-channel", "autoencoder": "below", "factor": 2}
    (folder / "above.yaml").write_text(yaml.safe_dump({**above, "spatial_compression": 16, "latent_channels": 32}))
    (folder / "wrong.yaml").write_text(yaml.safe_dump({**above, "spatial_compression": 16, "latent_channels": 16}))
    return Config(tmp_path / "config")


def test_reconstructions_are_those_of_the_autoencoder_below(config):
    below, above = load("below", config=config, seed=3), load("above", config=config, seed=3)
    images = torch.rand(2, 3, 64, 64)
    assert above.encode(images).shape == (2, 32, 4, 4)
    assert torch.equal(above(images), below(images))


def test_scale_of_each_channel_goes_with_it(config):
    below, above = load("below", config=config, seed=3), load("above", config=config, seed=3)
    images = torch.rand(1, 3, 32, 32)
    expected = torch.nn.functional.pixel_unshuffle(normalise(below, below.encode(images)), 2)
    assert torch.equal(normalise(above, above.encode(images)), expected)


def test_weights_are_those_of_the_autoencoder_below(config, tmp_path):
    trained = load("below", config=config, seed=9)
    save(trained, tmp_path / "trained")
    above = load("above", weights=tmp_path / "trained", config=config)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(above(images), trained(images))


def test_entry_must_state_what_follows(config):
    with pytest.raises(ConfigError, match="wrong: latent_channels is 16 in the entry, 32 in the code"):
        load("wrong", config=config)
