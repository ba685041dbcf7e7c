# SPDX-License-Identifier: Apache-2.0
"""Latents drawn from posteriors: the noise of a draw is a function of a seed and a number, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from dcae.autoencoders.contract import Scaled, normalise


def posterior_noise(seed: int, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal, float32 [len(numbers), *shape]; row i depends on (seed, numbers[i]) alone.

    As for samples, numbers are added to 32 bits that come from the seed, since torch seeds its generator with 32 bits.
    """
    start = int.from_bytes(hashlib.sha256(f"posteriors of seed {seed}".encode()).digest()[:4], "big")
    noise, generator = torch.empty(len(numbers), *shape), torch.Generator()
    for row, number in zip(noise, numbers, strict=True):
        row.normal_(generator=generator.manual_seed((start + int(number)) % 2**32))
    return noise


def drawn(by: Scaled, mean: Tensor, std: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    """Normalised latents [B, c, h, w]: of a draw if noise is given, of the mean if not; the mean may be overwritten."""
    latents = mean if noise is None else torch.addcmul(mean, std, noise)
    return normalise(by, latents, out=latents)
