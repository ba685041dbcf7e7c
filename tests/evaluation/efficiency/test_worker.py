# SPDX-License-Identifier: Apache-2.0
"""What a process of its own survives, and what it tells."""

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from evaluation.efficiency.worker import ProcessEnded, Worker


def divide(a: float, b: float) -> tuple[float, int]:
    return a / b, os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stay(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def call_and_wait(path: Path) -> None:
    with Worker() as process:
        process.call(stay, path, seconds=60)


def test_a_process_ends_with_the_one_that_started_it_even_if_that_is_killed(tmp_path):
    """Otherwise it would go on measuring, beside the command that is given again."""
    path = tmp_path / "pid"
    caller = get_context("spawn").Process(target=call_and_wait, args=(path,))
    caller.start()
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    number = int(path.read_text())
    caller.kill()
    caller.join()
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_calls_run_in_another_process_that_serves_until_one_of_them_ends_it():
    with Worker() as process:
        result, number = process.call(divide, 6, 3, seconds=60)
        assert result == 2
        assert number != os.getpid()
        with pytest.raises(ZeroDivisionError):
            process.call(divide, 6, 0, seconds=60)
        assert process.call(divide, 6, 2, seconds=60) == (3, number)
        with pytest.raises(ProcessEnded, match="its process was killed by signal 9"):
            process.call(die, seconds=60)
        with pytest.raises(ProcessEnded, match="its process ended with exit code 3"):
            process.call(os._exit, 3, seconds=60)
        with pytest.raises(ProcessEnded, match="not done after 1 s"):
            process.call(time.sleep, 60, seconds=1)
        again, another = process.call(divide, 8, 2, seconds=60)
        assert again == 4
        assert another != number
    with pytest.raises(ProcessLookupError):
        os.kill(another, 0)
