# SPDX-License-Identifier: Apache-2.0
"""Higher compression without training: space to channel after another autoencoder (paper figure 3a, baseline)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder, PerChannel
from dcae.weights.hub import released_file


class SpaceToChannel(Autoencoder):
    """Multiplies f by ``factor`` and c by its square; reconstructions stay the same."""

    def __init__(self, autoencoder: nn.Module, factor: int):
        super().__init__(
            autoencoder.spatial_compression * factor,
            autoencoder.latent_channels * factor**2,
            _spread(autoencoder.latent_scale, factor),
            _spread(autoencoder.latent_shift, factor),
        )
        self.autoencoder = autoencoder
        self.factor = factor
        self.latent_posterior = getattr(autoencoder, "latent_posterior", "mode")
        self.released_file = released_file(autoencoder)

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return F.pixel_unshuffle(self.autoencoder.encode(images), self.factor)  # [B, c, H/f, W/f]

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.autoencoder.moments(images)
        return F.pixel_unshuffle(mean, self.factor), F.pixel_unshuffle(std, self.factor)

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        return self.autoencoder.decode(F.pixel_shuffle(latents, self.factor))


def _spread(value: PerChannel | None, factor: int) -> PerChannel | None:
    """Repeat a value per channel for the ``factor`` squared channels made from it; a single number stays."""
    if isinstance(value, list):
        return [number for number in value for _ in range(factor**2)]
    return value
