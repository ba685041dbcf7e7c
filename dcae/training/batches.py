# SPDX-License-Identifier: Apache-2.0
"""Loads this process's batches, on GPUs in worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcae.training.distributed import own_cores

MOST_WORKERS = 8


class Batch(NamedTuple):
    """Global numbers of the samples, and the tensors read for them."""

    numbers: list[int]
    content: Any


def split(batch: Batch, parts: int) -> list[Batch]:
    """Split a process's batch into equal parts, in order; divisibility is checked by ``engine.check_batch_size``."""
    size = len(batch.numbers) // parts

    def part(tensor: Tensor, first: int) -> Tensor:
        return tensor[first : first + size]

    def content(first: int) -> Any:
        if isinstance(batch.content, Tensor):
            return part(batch.content, first)
        return tuple(part(tensor, first) for tensor in batch.content)

    starts = range(0, parts * size, size)
    return [Batch(batch.numbers[first : first + size], content(first)) for first in starts]


def share_of_batch(step: int, batch_size: int, process: int, processes: int) -> range:
    """Return the global numbers of a process's samples; step s has s * batch_size … (s + 1) * batch_size - 1."""
    share = batch_size // processes
    first = step * batch_size + process * share
    return range(first, first + share)


class _BatchOfStep(Dataset[Batch]):
    """Item s is the batch of step s."""

    def __init__(self, read: Callable[[range], Tensor | tuple[Tensor, ...]], *split: int):
        self.read, self.split = read, split

    def __getitem__(self, step: int) -> Batch:
        numbers = share_of_batch(step, *self.split)
        return Batch(list(numbers), self.read(numbers))


def _unchanged(batch: Batch) -> Batch:
    return batch


def _ignore_signals(_worker: int) -> None:
    """Ignore signals, which reach a whole process group: a killed worker would end the training before it is saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def batches(
    read: Callable[[range], Tensor | tuple[Tensor, ...]],
    first_step: int,
    steps: int,
    batch_size: int,
    accelerator: Accelerator,
) -> Iterator[Batch]:
    """Yield the batches of the steps ``first_step`` … ``steps - 1``, on the CPU.

    Args:
        read: returns the tensors of the samples with the given global numbers; depends only on these numbers.
        first_step, steps, batch_size: as in the recipe; the batch size is over all processes.
        accelerator: on a GPU, worker processes read ahead; on a CPU they would compete with the training for cores.
    """
    on_gpu = accelerator.device.type != "cpu"
    loader = DataLoader(
        _BatchOfStep(read, batch_size, accelerator.process_index, accelerator.num_processes),
        batch_size=None,  # an item is a batch already
        collate_fn=_unchanged,
        sampler=range(first_step, steps),
        num_workers=min(MOST_WORKERS, max(own_cores() - 1, 1)) if on_gpu else 0,
        worker_init_fn=_ignore_signals,
        pin_memory=accelerator.device.type == "cuda",
    )
    return iter(loader)
