# SPDX-License-Identifier: Apache-2.0
"""Between this project's contract and what a class of diffusers takes and returns."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dcae.benchmark.entries import Conventions


def images_to_model(images: Tensor, conventions: Conventions) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] in the range of the class; as videos [B, 3, 1, H, W] if it takes those."""
    low, high = conventions.image_range
    if (low, high) != (-1.0, 1.0):
        images = (images + 1) * ((high - low) / 2) + low
    return images.unsqueeze(2) if conventions.video else images


def images_from_model(images: Tensor, conventions: Conventions) -> Tensor:
    """The inverse of ``images_to_model``."""
    low, high = conventions.image_range
    if conventions.video:
        images = images.squeeze(2)
    return images if (low, high) == (-1.0, 1.0) else (images - low) * (2 / (high - low)) - 1


def latents_from_model(latents: Tensor, conventions: Conventions) -> Tensor:
    """Latents of the class, [B, C, h, w] or [B, C, 1, h, w], as [B, C p p, h/p, w/p] with its latent patch size p.

    Channels are ordered (C, row, column), as FLUX.2 and ``SpaceToChannel`` have them.
    """
    return F.pixel_unshuffle(latents.squeeze(2) if conventions.video else latents, conventions.latent_patch_size)


def latents_to_model(latents: Tensor, conventions: Conventions) -> Tensor:
    """The inverse of ``latents_from_model``."""
    latents = F.pixel_shuffle(latents, conventions.latent_patch_size)
    return latents.unsqueeze(2) if conventions.video else latents
