# SPDX-License-Identifier: Apache-2.0
"""The order of training images: a pure function of the seed and the number of the draw.

Draws are numbered over the whole training and all processes, so a resumed training, also on another number of GPUs,
sees the same images in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcae.data.dataset import ImageDataset, fingerprint
from dcae.randomness import numpy_generator

BLOCK = 1000
"""Draws in a block; every block holds each dataset in exactly its share."""


@lru_cache(maxsize=16)
def permutation(n: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """Return the order of ``n`` items in an epoch, int64 [n]; streams of one seed are independent."""
    return numpy_generator(seed, stream=(stream, epoch)).permutation(n)


def epoch_index(n: int, seed: int, k: int, stream: int = 0) -> int:
    """Return which of ``n`` items draw ``k`` takes: each once per epoch, in a new order every epoch.

    Streams of one seed are independent.
    """
    epoch, position = divmod(k, n)
    return int(permutation(n, seed, stream, epoch)[position])


def shares_of_block(weights: Sequence[float]) -> list[int]:
    """Return how many of ``BLOCK`` draws each dataset gets, by the largest remainder method.

    Raises:
        ValueError: a weight is not positive, or so small that its dataset would never be drawn.
    """
    if min(weights) <= 0:
        raise ValueError(f"weights of a mixture must be positive, got {list(weights)}")
    exact = np.asarray(weights, float) / sum(weights) * BLOCK
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: BLOCK - counts.sum()]] += 1
    if counts.min() == 0:
        raise ValueError(f"weight {weights[int(counts.argmin())]} of a mixture is less than 1/{BLOCK} of the total")
    return counts.tolist()


class Mixture(Dataset[Tensor]):
    """Images drawn from several datasets of one resolution, each dataset without replacement within its epochs.

    Args:
        datasets: all of the same resolution.
        weights: relative share of draws of each dataset.
        seed: of the order; not negative.

    Raises:
        ValueError: resolutions differ, or as ``shares_of_block``.
    """

    def __init__(self, datasets: Sequence[ImageDataset], weights: Sequence[float], seed: int):
        if not datasets or len(datasets) != len(weights):
            raise ValueError(f"a mixture of {len(datasets)} datasets needs as many weights, got {len(weights)}")
        if len({dataset.resolution for dataset in datasets}) > 1:
            raise ValueError(f"datasets differ in resolution: {[dataset.resolution for dataset in datasets]}")
        self.datasets, self.seed, self.resolution = list(datasets), seed, datasets[0].resolution
        self.counts = shares_of_block(weights)
        self.members = np.repeat(np.arange(len(datasets)), self.counts)  # of a block, before it is shuffled
        self.fingerprint = fingerprint(
            kind="mixture", seed=seed, counts=self.counts, datasets=[dataset.fingerprint for dataset in datasets]
        )

    def locate(self, k: int) -> tuple[int, int, int]:
        """Return draw ``k`` (0, 1, ...) as (number of the dataset, index in it, epoch of that dataset)."""
        block, position = divmod(k, BLOCK)
        order = self.members[permutation(BLOCK, self.seed, 0, block)]
        number = int(order[position])
        earlier = block * self.counts[number] + int((order[:position] == number).sum())
        length = len(self.datasets[number])
        return number, epoch_index(length, self.seed, earlier, stream=1 + number), earlier // length

    def sample(self, k: int) -> Tensor:
        """Return the image of draw ``k``, uint8 [3, R, R]."""
        number, index, epoch = self.locate(k)
        return self.datasets[number].image(index, epoch)

    def batch(self, draws: Sequence[int]) -> Tensor:
        """Return the images of several draws, uint8 [B, 3, R, R]."""
        return torch.stack([self.sample(k) for k in draws])

    def __getitem__(self, k: int) -> Tensor:
        """As ``sample``, for a ``DataLoader`` whose sampler yields numbers of draws."""
        return self.sample(k)
