# SPDX-License-Identifier: Apache-2.0
"""Work on many files by several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_received: list[Any] = []  # in a worker: what it was given when it started


def _receive(shared: Any) -> None:
    _received[:] = [shared]


def _call(function: Callable[[Any, Any], T], task: Any) -> T:
    return function(_received[0], task)


def in_processes(function: Callable[[Any, Any], T], shared: Any, tasks: Iterable[Any], processes: int) -> Iterator[T]:
    """``function(shared, task)`` of every task, in order.

    Args:
        function: of a module, so that processes of their own can import it.
        shared: sent to each process once, as it may be large.
        tasks: small.
        processes: 1 does everything in this one.
    """
    if processes == 1:
        yield from (function(shared, task) for task in tasks)
        return
    # Not forked: the calling process may hold a GPU and threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _receive, (shared,)) as pool:
        yield from pool.map(partial(_call, function), tasks)
