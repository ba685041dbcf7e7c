# SPDX-License-Identifier: Apache-2.0
"""Latents encoded when they are read, in place of cached ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.data.dataset import ImageDataset
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.latents.posterior import encode_pixels, normalised, posterior_noise, posterior_of
from dcae.diffusion.models.embeddings import check_labels


class EncodedOnTheFly:
    """A dataset's images and the autoencoder that encodes them; used like ``LatentDataset``.

    Attributes:
        shape: (c, h, w).
        classes: number of classes, 0 if there are none.
        posterior: the autoencoder's ``latent_posterior``; samples equal those of cached latents.
        latent_scale, latent_shift: latents are normalised as (latents - shift) * scale.

    Args:
        autoencoder: in evaluation mode, on the device to encode on.
        images: random crops differ from epoch to epoch.
        captions: embedded, of the same images, for denoisers conditioned on them.

    Raises:
        ConfigError: ``latent_scale`` is unknown, or f does not divide the resolution.
        CacheError: the captions are of other images.
    """

    def __init__(self, autoencoder: nn.Module, images: ImageDataset, captions: CaptionDataset | None = None):
        self.autoencoder, self.images = autoencoder, images
        f, resolution = autoencoder.spatial_compression, images.resolution
        if autoencoder.latent_scale is None:
            raise ConfigError("the autoencoder has no latent_scale: set it in its entry, or train it")
        if resolution % f:
            raise ConfigError(f"images of {resolution} px cannot be encoded with f{f}: choose a multiple of {f}")
        self.shape = (autoencoder.latent_channels, resolution // f, resolution // f)
        self.classes = len(images.classes)
        self.posterior = posterior_of(autoencoder)
        self.latent_scale, self.latent_shift = autoencoder.latent_scale, autoencoder.latent_shift

        self._checked = False
        self.captions = captions
        if captions is not None:
            captions.check_number(len(images), "the dataset has images")

    def __len__(self) -> int:
        return len(self.images)

    def condition(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """Return labels or captions as ``LatentDataset.condition``; raises ``ValueError`` for an unknown label."""
        if self.captions is not None:
            return self.captions.batch(indices)
        labels = torch.tensor([self.images.label(index) for index in indices])
        check_labels(labels, max(self.classes, 1))
        return (labels,)

    def read(self, indices: Sequence[int], draws: Sequence[int], seed: int) -> tuple[Tensor, ...]:
        """Return pixels uint8 [B, 3, R, R], and posterior noise if any; draws decide crops and noise."""
        epochs = [draw // len(self) for draw in draws]
        pixels = torch.stack([self.images.image(*each) for each in zip(indices, epochs, strict=True)])
        if self.posterior == "mode":
            return (pixels,)
        numbers = {"sample": indices, "moments": draws}[self.posterior]
        return pixels, posterior_noise(seed, numbers, self.shape)

    @torch.no_grad()
    def latents(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return normalised latents [B, c, h, w] of the result of ``read``, on the autoencoder's device.

        Raises:
            ValueError: those of the first batch are not finite; later ones show in the loss.
        """
        encoded = encode_pixels(self.autoencoder, pixels, check=not self._checked)
        self._checked = True
        return normalised(self, *encoded, noise)
