# SPDX-License-Identifier: Apache-2.0
"""Control autoencoders with scores known in advance, to detect a broken metric."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dcae.autoencoders.contract import Autoencoder


class Identity(Autoencoder):
    """Rearranges pixels and back: every reconstruction is perfect."""

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return F.pixel_unshuffle(images, self.spatial_compression)  # [B, 3ff, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(latents, self.spatial_compression)


class Blur(Autoencoder):
    """Averages squares of f x f pixels and interpolates bilinearly: right colours, no detail."""

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return F.avg_pool2d(images, self.spatial_compression)  # [B, 3, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=self.spatial_compression, mode="bilinear", align_corners=False)


class MeanColour(Autoencoder):
    """Reconstructs the image's mean colour, the constant image of least squared error."""

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        latent_size = [side // self.spatial_compression for side in images.shape[-2:]]
        return images.mean(dim=(2, 3), keepdim=True).expand(-1, -1, *latent_size)  # [B, 3, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:
        size = [side * self.spatial_compression for side in latents.shape[-2:]]
        return latents.mean(dim=(2, 3), keepdim=True).expand(-1, -1, *size)


def identity(spatial_compression: int) -> Identity:
    """Factory of ``config/autoencoders/identity.yaml``."""
    return Identity(spatial_compression, 3 * spatial_compression**2, latent_scale=1.0)


def blur(spatial_compression: int) -> Blur:
    """Factory of ``config/autoencoders/blur.yaml``."""
    return Blur(spatial_compression, 3, latent_scale=1.0)


def mean_colour(spatial_compression: int) -> MeanColour:
    """Factory of ``config/autoencoders/mean-colour.yaml``."""
    return MeanColour(spatial_compression, 3, latent_scale=1.0)
