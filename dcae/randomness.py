# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend only on their purpose.

A training that is stopped and continued must draw the same numbers as an undisturbed one, on any number of processes.
Every draw therefore names its purpose: the seed, a word, and the number of the step or the sample. Datasets draw with
numpy's generators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derived_seed(*purpose: int | str) -> int:
    """Return a 63-bit seed that depends only on the given values."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "big") >> 1


def generator(*purpose: int | str) -> torch.Generator:
    """Return a new CPU generator; different purposes give independent streams."""
    return torch.Generator().manual_seed(derived_seed(*purpose))


def numbered_generators(numbers: Iterable[int], *purpose: int | str) -> Iterator[torch.Generator]:
    """Yield a CPU generator for each number; no two of 2**32 numbers are alike.

    torch uses 32 bits of a CPU generator's seed, so that hashes of 50,000 numbers would repeat some. Numbers are added
    to the hash of the purpose instead.
    """
    start = derived_seed(*purpose)
    for number in numbers:
        yield torch.Generator().manual_seed((start + int(number)) % 2**32)


def per_sample(
    draw: Callable[[torch.Generator], Tensor], numbers: Sequence[int], *purpose: int | str
) -> Tensor:  # [len(numbers), ...]
    """Stack one draw per global sample number, independent of the process that holds the sample."""
    return torch.stack([draw(generator(*purpose, number)) for number in numbers])


def numpy_generator(*numbers: int, stream: tuple[int, ...] = ()) -> np.random.Generator:
    """Return a numpy generator of non-negative integers; other numbers or another stream give independent streams."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(numbers), spawn_key=stream)))


@contextmanager
def seeded(*purpose: int | str):
    """Seed torch's global generators within this context, and restore them afterwards.

    For code that takes no generator, such as the default initialisation of layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(*purpose))
        yield
