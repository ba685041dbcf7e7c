# SPDX-License-Identifier: Apache-2.0
"""The order in which a training takes the items of one data set: a pure function of the seed and the draw's number."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=16)
def permutation(n: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """The order of ``n`` items in an epoch, int64 [n]; streams of one seed are independent of each other."""
    random_numbers = np.random.SeedSequence(seed, spawn_key=(stream, epoch))
    return np.random.Generator(np.random.PCG64(random_numbers)).permutation(n)


def epoch_index(n: int, seed: int, k: int, stream: int = 0) -> int:
    """Which of ``n`` items draw ``k`` takes: every item once per epoch, in an order of its own in each.

    Streams of one seed are independent of each other.
    """
    epoch, position = divmod(k, n)
    return int(permutation(n, seed, stream, epoch)[position])
