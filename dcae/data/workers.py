# SPDX-License-Identifier: Apache-2.0
"""Tasks on many files in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_shared: Any = None  # in a worker: the argument that all its tasks share


def _receive(shared: Any) -> None:
    global _shared
    _shared = shared


def _call(function: Callable[[Any, Any], T], task: Any) -> T:
    return function(_shared, task)


def in_processes(function: Callable[[Any, Any], T], shared: Any, tasks: Iterable[Any], processes: int) -> Iterator[T]:
    """Yield ``function(shared, task)`` for each task, in order.

    Args:
        function: top-level in its module, so that worker processes can import it.
        shared: sent to each process once; may be large.
        tasks: small; sent one by one.
        processes: with 1 everything runs in the calling process.
    """
    if processes == 1:
        yield from (function(shared, task) for task in tasks)
        return
    # Not forked: the calling process may hold a GPU and threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _receive, (shared,)) as pool:
        yield from pool.map(partial(_call, function), tasks)
