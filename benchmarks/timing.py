# SPDX-License-Identifier: Apache-2.0
"""Times and peak memory of a call, and the rate of a large matrix product to see them beside."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from evaluation.efficiency import finish

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


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


def best_time(step: Callable[[], object], device: str, seconds: float) -> float:
    """Shortest duration of a call in seconds, out of as many as fit into the given time; at least one."""
    times: list[float] = []
    while not times or sum(times) + times[-1] < seconds:
        finish(torch.device(device))
        start = time.perf_counter()
        step()
        finish(torch.device(device))
        times.append(time.perf_counter() - start)
    return min(times)


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


def matrix_product_rate(device: str, precision: str) -> float:
    """Multiply-accumulates per second of a large matrix product, the best of several."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.rand(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    a @ b
    return side**3 / best_time(lambda: a @ b, device, seconds=2)
