# SPDX-License-Identifier: Apache-2.0
"""Calls in processes of their own, and their peak memory; how they are timed is ``evaluation.efficiency.timing``."""

from __future__ import annotations

import os
import re
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
