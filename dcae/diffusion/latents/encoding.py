# SPDX-License-Identifier: Apache-2.0
"""From pixels to latents that are not normalised yet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import Posterior


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
