# SPDX-License-Identifier: Apache-2.0
"""Latents drawn from posteriors: the noise of a draw is a function of a seed and a number, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dcae.autoencoders import normalise
from dcae.autoencoders.contract import Scaled
from dcae.benchmark.entries import Posterior


def posterior_noise(seed: int, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal, float32 [len(numbers), *shape]; row i depends on (seed, numbers[i]) alone.

    As for samples, numbers are added to 32 bits that come from the seed, since torch seeds its generator with 32 bits.
    """
    start = int.from_bytes(hashlib.sha256(f"posteriors of seed {seed}".encode()).digest()[:4], "big")
    noise, generator = torch.empty(len(numbers), *shape), torch.Generator()
    for row, number in zip(noise, numbers, strict=True):
        row.normal_(generator=generator.manual_seed((start + int(number)) % 2**32))
    return noise


def posterior_of(autoencoder: nn.Module) -> Posterior:
    """What diffusion models are trained on; a user's own class need not say it."""
    return getattr(autoencoder, "latent_posterior", "mode")


@torch.no_grad()
def encode_pixels(autoencoder: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Latents float32 [B, c, h, w], not normalised, of pixels uint8 [B, 3, R, R].

    Of an autoencoder whose posteriors are sampled, their means, and their standard deviations beside them.

    Raises:
        ValueError: they are not finite.
    """
    images = pixels.float() / 127.5 - 1
    sampled = posterior_of(autoencoder) != "mode"
    mean, std = autoencoder.moments(images) if sampled else (autoencoder.encode(images), None)
    if not mean.isfinite().all() or (sampled and not std.isfinite().all()):
        raise ValueError("the autoencoder's latents are not finite; check its weights")
    return mean.float().contiguous(), std.float().contiguous() if sampled else None


def drawn(by: Scaled, mean: Tensor, std: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    """Normalised latents [B, c, h, w]: of a draw if noise is given, of the mean if not."""
    return normalise(by, mean if noise is None else torch.addcmul(mean, std, noise))
