# SPDX-License-Identifier: Apache-2.0
"""Calls in a process of their own, which may fail, hang or be killed by the system without ending the caller.

After some errors of CUDA nothing works in a process any more, and a compiler may hang.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

Result = TypeVar("Result")


class ProcessEnded(RuntimeError):
    """The process ended before its call did; the message says how."""


class Worker:
    """A process that runs calls one after another, and is started again after one that has ended it.

    It is a fresh interpreter, since a fork would inherit a state of CUDA, and of threads, that it cannot use; with
    ``fork`` it is a fork, which starts at once.
    """

    def __init__(self, fork: bool = False):
        self._context = get_context("fork" if fork else "spawn")
        self._pool = self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def call(self, function: Callable[..., Result], *arguments: object, seconds: float) -> Result:
        """Return the result of a call.

        Args:
            function: of a module; it, its arguments and its result are pickled.
            arguments: in their order.
            seconds: after which the process is killed.

        Raises:
            ProcessEnded: it was killed, by the system or for taking too long.
            Exception: the call's own.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, self._context, _end_with_parent)
        others = set(active_children())
        future = self._pool.submit(function, *arguments)
        if self._process is None:
            [self._process] = set(active_children()) - others
        try:
            return future.result(seconds)
        except BrokenProcessPool:
            process = self._process
            self.end()
            code = process.exitcode
            how = (
                f"its process was killed by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
            )
            raise ProcessEnded(how) from None
        except BaseException as error:  # also Ctrl-C: nobody waits for the result any more
            if future.done():
                raise
            self.end()
            if isinstance(error, TimeoutError):
                raise ProcessEnded(f"not done after {seconds:.0f} s") from None
            raise

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._pool is not None:
            self._process.kill()
            self._pool.shutdown()
            self._pool = self._process = None


def _end_with_parent() -> None:
    """Let the process end with the one that started it, also if that is killed."""

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
