# SPDX-License-Identifier: Apache-2.0
"""The latent scale of released weights without one."""

from __future__ import annotations

import pytest

from dcae.autoencoders.loading import load
from dcae.benchmark.entries import ScenesEntry
from dcae.data.loading import open_dataset
from dcae.diffusion.latents import scale
from dcae.diffusion.latents.posterior import encode_pixels
from tests.autoencoders.small import kl


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_it_is_one_over_the_rms_of_the_first_images_latents_to_four_digits(posterior, monkeypatch):
    monkeypatch.setattr(scale, "IMAGES", 5)
    autoencoder = load(kl(posterior=posterior))
    scenes = ScenesEntry(name="scenes", kind="scenes", train_images=8, validation_images=1)
    images = open_dataset(scenes, "train", 32)
    mean, std = encode_pixels(autoencoder, images.batch(range(5)))
    squares = mean.square() + (0 if std is None else std.square())
    assert scale.measured_scale(autoencoder, images) == float(f"{squares.mean().rsqrt().item():.4g}")
    autoencoder.latent_shift = 0.5
    shifted = (mean - 0.5).square() + (0 if std is None else std.square())
    assert scale.measured_scale(autoencoder, images) == pytest.approx(shifted.mean().rsqrt().item(), rel=1e-3)
