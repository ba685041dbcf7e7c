# SPDX-License-Identifier: Apache-2.0
"""The order in which training sees images: a pure function of the seed and the number of the draw.

Draws are numbered over the whole training and over all processes. A training that goes on after an interruption, or on
another number of GPUs, therefore sees the same images in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcae.data.dataset import ImageDataset, fingerprint
from dcae.data.order import epoch_index, permutation

BLOCK = 1000
"""Every block of so many draws holds each data set in exactly its share."""


def shares_of_block(weights: Sequence[float]) -> list[int]:
    """How many of ``BLOCK`` draws each data set gets, by largest remainder.

    Raises:
        ValueError: a weight is not positive, or so small that its data set would never be drawn.
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
    """Images drawn from several data sets of one resolution, each without replacement within its own epochs.

    Args:
        datasets: of equal resolution.
        weights: share of the draws of each data set, up to a common factor.
        seed: not negative; decides the order.

    Raises:
        ValueError: resolutions differ, or see ``shares_of_block``.
    """

    def __init__(self, datasets: Sequence[ImageDataset], weights: Sequence[float], seed: int):
        if not datasets or len(datasets) != len(weights):
            raise ValueError(f"a mixture of {len(datasets)} data sets needs as many weights, got {len(weights)}")
        if len({dataset.resolution for dataset in datasets}) > 1:
            raise ValueError(f"data sets differ in resolution: {[dataset.resolution for dataset in datasets]}")
        self.datasets, self.seed, self.resolution = list(datasets), seed, datasets[0].resolution
        self.counts = shares_of_block(weights)
        self.members = np.repeat(np.arange(len(datasets)), self.counts)  # of a block, before it is shuffled
        self.fingerprint = fingerprint(
            kind="mixture", seed=seed, counts=self.counts, datasets=[dataset.fingerprint for dataset in datasets]
        )

    def locate(self, k: int) -> tuple[int, int, int]:
        """Draw ``k`` (0, 1, ...) as (number of the data set, index in it, epoch of that data set)."""
        block, position = divmod(k, BLOCK)
        order = self.members[permutation(BLOCK, self.seed, 0, block)]
        number = int(order[position])
        earlier = block * self.counts[number] + int((order[:position] == number).sum())
        length = len(self.datasets[number])
        return number, epoch_index(length, self.seed, earlier, stream=1 + number), earlier // length

    def sample(self, k: int) -> Tensor:
        """The image of draw ``k``, uint8 [3, R, R]."""
        number, index, epoch = self.locate(k)
        return self.datasets[number].image(index, epoch)

    def batch(self, draws: Sequence[int]) -> Tensor:
        """The images of several draws, uint8 [B, 3, R, R]."""
        return torch.stack([self.sample(k) for k in draws])

    def __getitem__(self, k: int) -> Tensor:
        """As ``sample``: for a ``DataLoader`` whose sampler yields numbers of draws."""
        return self.sample(k)
