# SPDX-License-Identifier: Apache-2.0
"""Calls in a process of their own, which may fail, hang or be killed by the system without the caller's end.

After some errors of CUDA nothing works in a process any more, and a compiler may take for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import TypeVar

Result = TypeVar("Result")


class ProcessEnded(RuntimeError):
    """The process ended before its call did; says how."""


class OwnProcess:
    """A process that runs calls one after another, and is started again after one that has ended it.

    It is a fresh interpreter: a fork would inherit a state of CUDA that is of no use to it.
    """

    def __init__(self):
        self._context = get_context("spawn")
        self._process = self._connection = None

    def __enter__(self) -> OwnProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def call(self, function: Callable[..., Result], *arguments: object, seconds: float) -> Result:
        """The result of a call.

        Args:
            function: of a module; it, its arguments and its result are pickled.
            arguments: in their order.
            seconds: after which the process is killed.

        Raises:
            ProcessEnded: it was killed, by the system or for taking too long.
            Exception: the call's own.
        """
        if self._process is None:
            self._start()
        try:
            self._connection.send((function, arguments))
            if not self._connection.poll(seconds):
                raise ProcessEnded(f"not done after {seconds:.0f} s")
            succeeded, result = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.end()
            how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ProcessEnded(f"its process was {how}" if code < 0 else f"its process {how}") from None
        except BaseException:  # also Ctrl-C: nobody waits for the result any more
            self.end()
            raise
        if not succeeded:
            raise result
        return result

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = self._connection = None

    def _start(self) -> None:
        self._connection, other_end = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(other_end,))
        self._process.start()
        other_end.close()


def _serve(connection: Connection) -> None:
    """Run the calls that come, until the process is killed or the one that started it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except Exception as error:
            answer = False, error
        connection.send(answer)
        del function, arguments, answer  # before the next call, so that its memory is free


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
