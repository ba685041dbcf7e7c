# SPDX-License-Identifier: Apache-2.0
"""The batches of one process, a whole batch at a time, made in worker processes where that pays."""

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
    """Global numbers of the samples, and what was read for them."""

    numbers: list[int]
    content: Any


def split(batch: Batch, parts: int) -> list[Batch]:
    """A process's batch as so many equal parts, in order; that it divides, ``engine.check_batch_size`` sees to."""
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
    """Global numbers of a process's samples in a step: step s has samples s * batch_size … (s + 1) * batch_size - 1.

    Raises:
        ValueError: the batch cannot be split evenly over the processes.
    """
    if batch_size % processes:
        raise ValueError(f"batch_size {batch_size} cannot be split evenly over {processes} processes")
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


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _leave_stopping_to_the_training(_worker: int) -> None:
    """Signals reach a whole process group; a worker that died of one would end the training before it is saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def batches(
    read: Callable[[range], Tensor | tuple[Tensor, ...]],
    first_step: int,
    steps: int,
    batch_size: int,
    accelerator: Accelerator,
) -> Iterator[Batch]:
    """The batches of the steps ``first_step`` … ``steps - 1``, on the CPU.

    Args:
        read: makes tensors of the samples with the given global numbers; a function of these numbers alone.
        first_step, steps, batch_size: as in the recipe; the batch size is over all processes.
        accelerator: on a GPU, worker processes read ahead; on a CPU they would take the cores from the training.
    """
    on_gpu = accelerator.device.type != "cpu"
    loader = DataLoader(
        _BatchOfStep(read, batch_size, accelerator.process_index, accelerator.num_processes),
        batch_size=None,  # an item is a batch already
        collate_fn=_as_it_is,
        sampler=range(first_step, steps),
        num_workers=min(MOST_WORKERS, max(own_cores() - 1, 1)) if on_gpu else 0,
        worker_init_fn=_leave_stopping_to_the_training,
        pin_memory=accelerator.device.type == "cuda",
    )
    return iter(loader)
