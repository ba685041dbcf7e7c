# SPDX-License-Identifier: Apache-2.0
"""A tiny dataset and autoencoders whose latents are known, for the tests of cached latents."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pixel_unshuffle


def shard(folder: Path, number: int) -> Path:
    """The file of a shard."""
    (path,) = folder.glob(f"shard-{number:05d}-*.safetensors")
    return path


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


class Variational(Unshuffle):
    """Gaussian posteriors: the means are the pixels, the standard deviations a tenth of their size and more."""

    def __init__(self, latent_posterior: str):
        super().__init__()
        self.latent_posterior = latent_posterior

    def moments(self, images):
        mean = self.encode(images)
        return mean, 0.1 + 0.1 * mean.abs()
