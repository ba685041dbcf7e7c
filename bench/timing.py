# SPDX-License-Identifier: Apache-2.0
"""Calls in processes of their own, and their peak memory; how they are timed is ``evaluation.efficiency.timing``."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch


def in_a_new_process(function: Callable, *arguments: object, environment: Mapping[str, str] | None = None):
    """The result of a call that starts with a fresh interpreter and an empty memory."""
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def restart_peak_memory(device: str) -> None:
    """Count peak memory from here on."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: VmHWM becomes the present size


def peak_memory(device: str) -> int:
    """Bytes that tensors took on the GPU, or that the process had in memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE).group(1))


class _Mallinfo2(ctypes.Structure):
    """What glibc's ``mallinfo2`` returns (man 3 mallinfo)."""

    _names = (
        *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
        *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
    )
    _fields_ = list(zip(_names, [ctypes.c_size_t] * 10, strict=True))


def bytes_in_use() -> int:
    """What the C library has given out and not got back, tensors and the workspace of operators alike.

    Raises:
        RuntimeError: the C library does not tell.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        raise RuntimeError("memory in use is known from glibc 2.33 on, which this system does not have")
    mallinfo2.restype = _Mallinfo2
    told = mallinfo2()
    return told.uordblks + told.hblkhd


class PeakInUse:
    """The most bytes that were in use at once inside it, seen every 20 ms on a CPU, exactly on a GPU.

    Unlike the size of a process, it does not depend on how much freed memory the C library happens to keep.
    """

    SECONDS = 0.02

    def __init__(self, device: torch.device):
        self._device, self._end, self.peak = device, threading.Event(), 0
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakInUse:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self.peak = bytes_in_use()
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._end.set()
            self._watch.join()

    def _look(self) -> None:
        while not self._end.wait(self.SECONDS):
            self.peak = max(self.peak, bytes_in_use())
