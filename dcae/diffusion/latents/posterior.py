# SPDX-License-Identifier: Apache-2.0
"""From pixels to latents: encoding, posterior samples and normalisation, for cached and on-the-fly latents alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dcae.autoencoders.contract import Scaled, normalise
from dcae.benchmark.entries import Posterior
from dcae.randomness import numbered_generators


def posterior_of(autoencoder: nn.Module) -> Posterior:
    """Return the latents that diffusion models are trained on; defaults to the mode for a user's own class."""
    return getattr(autoencoder, "latent_posterior", "mode")


@torch.no_grad()
def encode_pixels(autoencoder: nn.Module, pixels: Tensor, check: bool = True) -> tuple[Tensor, Tensor | None]:
    """Return latents float32 [B, c, h, w], not normalised, of pixels uint8 [B, 3, R, R].

    Where the posterior is sampled, these are its means, returned with its standard deviations.

    Args:
        check: look whether the latents are finite, which waits for the device.

    Raises:
        ValueError: the latents are not finite.
    """
    images = pixels.float() / 127.5 - 1
    sampled = posterior_of(autoencoder) != "mode"
    mean, std = autoencoder.moments(images) if sampled else (autoencoder.encode(images), None)
    if check and not (mean.isfinite().all() and (not sampled or std.isfinite().all())):
        raise ValueError("the autoencoder's latents are not finite; check its weights")
    return mean.float().contiguous(), std.float().contiguous() if sampled else None


def posterior_noise(seed: int, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise, float32 [len(numbers), *shape]; row i depends only on (seed, numbers[i])."""
    noise = torch.empty(len(numbers), *shape)
    for row, generator in zip(noise, numbered_generators(numbers, seed, "posterior of an image"), strict=True):
        row.normal_(generator=generator)
    return noise


def normalised(by: Scaled, mean: Tensor, std: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    """Return normalised latents [B, c, h, w]: a posterior sample if noise is given, else the mean; overwrites it."""
    latents = mean if noise is None else torch.addcmul(mean, std, noise)
    return normalise(by, latents, out=latents)
