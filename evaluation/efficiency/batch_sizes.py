# SPDX-License-Identifier: Apache-2.0
"""Memory over the batch size: the largest batch that fits, and the need of one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from evaluation.efficiency.memory import (
    GIB,
    NotEnoughMemory,
    Peaks,
    Result,
    catch_out_of_memory,
    free_memory,
    total_memory,
)

SHARES_TO_RUN = (1, 7 / 8, 3 / 4)  # of the largest batch size, one after the other until it fits
SHARE_TO_FILL = 0.92  # of free memory, by the largest batch: allocators leave gaps


@dataclass(frozen=True)
class Line:
    """Memory that grows linearly with the batch size: the line through two sizes, each with its bytes."""

    small: tuple[int, float]
    large: tuple[int, float]

    @property
    def per_image(self) -> float:
        """Bytes for each additional image."""
        return (self.large[1] - self.small[1]) / (self.large[0] - self.small[0])

    def at(self, batch_size: int) -> float:
        """Return the bytes at a batch size."""
        return self.large[1] + self.per_image * (batch_size - self.large[0])

    def largest_batch_size(self, available: float) -> int:
        """Return the number of images that fit into so many bytes."""
        return self.large[0] + int((available - self.large[1]) // self.per_image)


def largest_batch_size(need: Callable[[int], int], device: torch.device, at_most: int) -> int:
    """Find the largest batch size that fits: doubled while it does, then interpolated between the last two.

    A multiple of 8 where 8 fit. Small sizes say little about large ones, since other parts of a step are their fullest.

    Args:
        need: bytes at a batch size; raises if these are more than there are.
        device: whose free memory is filled up to a share, for allocators leave gaps.
        at_most: not more than so many.

    Raises:
        NotEnoughMemory: not even one image fits.
    """
    available = SHARE_TO_FILL * free_memory(device)
    fitting: dict[int, int] = {}
    size = 1
    while size <= at_most:
        try:
            count = catch_out_of_memory(partial(need, size), device)
        except NotEnoughMemory:
            break
        if count > available:
            break
        fitting[size] = count
        size *= 2
    if not fitting:
        raise NotEnoughMemory(f"needs more than {total_memory(device) / GIB:.1f} GiB even for one image")
    if size > at_most or len(fitting) < 2:
        return max(fitting)
    *_, small, large = fitting.items()
    guess = min(Line(small, large).largest_batch_size(available), size - 1)
    while guess > large[0]:
        guess = guess - guess % 8 if guess >= 8 else guess
        try:
            if catch_out_of_memory(partial(need, guess), device) <= available:
                return max(guess, large[0])
        except NotEnoughMemory:
            pass
        guess = guess * 15 // 16
    return large[0]


def run_at_largest(run: Callable[[int], Result], largest: int, device: torch.device) -> tuple[int, Result]:
    """Return the largest batch size that eager steps have room for, or less, and the result of a run at it.

    A compiled step or a captured graph may need more than an eager one; then at 7/8 of it, or at 3/4.

    Raises:
        NotEnoughMemory: that does not fit either.
    """
    *larger, smallest = dict.fromkeys(max(1, int(largest * share)) for share in SHARES_TO_RUN)
    for size in larger:
        try:
            return size, catch_out_of_memory(partial(run, size), device)
        except NotEnoughMemory:
            continue
    return smallest, run(smallest)


def training_memory(peaks: Callable[[int], Peaks], batch_size: int, device: torch.device) -> tuple[float, str]:
    """Return the peak bytes of training at a batch size; where it does not fit, extrapolated from sizes that do.

    Returns:
        The bytes, and how they were extrapolated (nothing if they were measured).

    Raises:
        NotEnoughMemory: fewer than two batch sizes fit.
    """
    fitting: dict[int, Peaks] = {}
    size = batch_size
    while len(fitting) < 2 and size >= 1:
        try:
            fitting[size] = catch_out_of_memory(partial(peaks, size), device)
        except NotEnoughMemory:
            pass
        else:
            if size == batch_size:
                return fitting[size].all, ""
        size //= 2
    if len(fitting) < 2:
        raise NotEnoughMemory(f"needs more than {total_memory(device) / GIB:.1f} GiB at batch size {batch_size}")
    large, small = fitting
    # Only the passes grow: at a small batch the update may be the fuller part of a step, at a large one it is not.
    line = Line((small, fitting[small].forward_backward), (large, fitting[large].forward_backward))
    return max(line.at(batch_size), fitting[large].update), (
        f"extrapolated linearly from batch sizes {small} and {large}: at {2 * large} it needs more than "
        f"{total_memory(device) / GIB:.1f} GiB"
    )
