# SPDX-License-Identifier: Apache-2.0
"""A tiny data set and autoencoders whose latents are known, for the tests of cached latents."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pixel_unshuffle


class Item(NamedTuple):
    image: torch.Tensor
    label: int
    caption: str


class Images:
    """Random images of 8 x 8; ``fails_at`` is the index at which reading is interrupted."""

    classes = ("zero", "one", "two")

    def __init__(self, number: int, fails_at: int | None = None):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (number, 3, 8, 8), dtype=torch.uint8, generator=generator)
        self.fails_at, self.read = fails_at, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index == self.fails_at:
            raise KeyboardInterrupt
        self.read.append(index)
        return Item(self.images[index], index % 3, "")

    def latents(self) -> torch.Tensor:
        """What ``Unshuffle`` makes of all images, normalised."""
        return (pixel_unshuffle(self.images.float() / 127.5 - 1, 4) - 0.25) * 2


class Unshuffle(nn.Module):
    """Latents [B, 48, 2, 2] are the pixels themselves."""

    latent_scale, latent_shift = 2.0, 0.25

    def encode(self, images):
        return pixel_unshuffle(images, 4)


class Sampling(Unshuffle):
    """Latents are drawn, as from the posterior of a variational autoencoder."""

    def encode(self, images):
        return super().encode(images) + torch.randn(len(images), 48, 2, 2)
