# SPDX-License-Identifier: Apache-2.0
"""The latent scale of weights that come without one: ``latent_scale: measured``, and latent diffusion's kl-f16."""

from __future__ import annotations

import torch
from torch import nn

from dcae.autoencoders.tiling import images_at_once
from dcae.data.dataset import ImageDataset
from dcae.diffusion.latents.posterior import encode_pixels

IMAGES = 4096


def measured_scale(autoencoder: nn.Module, images: ImageDataset) -> float:
    """Return 1/RMS of the latents of the first images, to four digits, as released scales are given.

    Where the posterior is sampled, the RMS is the expected one of samples.
    """
    device = next(autoencoder.parameters(), torch.empty(0)).device
    count, squares, numbers = min(IMAGES, len(images)), 0.0, 0
    size = images_at_once(images.resolution, 32)
    for start in range(0, count, size):
        pixels = images.batch(range(start, min(start + size, count)))
        mean, std = encode_pixels(autoencoder, pixels.to(device))
        mean = mean - (autoencoder.latent_shift or 0.0)
        squares += mean.double().square().sum().item() + (0 if std is None else std.double().square().sum().item())
        numbers += mean.numel()
    return float(f"{(squares / numbers) ** -0.5:.4g}")
