# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on what they are for, and on nothing that happened before.

A training that is stopped and started again must draw what it would have drawn undisturbed, whatever the number of
processes. Every draw therefore names its purpose: the seed, a word, and the number of the step or of the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def derived_seed(*purpose: int | str) -> int:
    """A 63-bit seed that is a function of the given values alone."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "big") >> 1


def generator(*purpose: int | str) -> torch.Generator:
    """A new CPU generator for one purpose; two purposes give independent streams."""
    return torch.Generator().manual_seed(derived_seed(*purpose))


def per_sample(
    draw: Callable[[torch.Generator], Tensor], numbers: Sequence[int], *purpose: int | str
) -> Tensor:  # [len(numbers), ...]
    """One draw for each global sample number, so that it does not matter which process holds which sample."""
    return torch.stack([draw(generator(*purpose, number)) for number in numbers])


@contextmanager
def seeded(*purpose: int | str):
    """Within this context torch's global generators depend on the purpose alone; afterwards they are as before.

    For code that takes no generator, such as the default initialisation of layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(*purpose))
        yield
