# SPDX-License-Identifier: Apache-2.0
"""Ratios, their targets, and calls in fresh processes; a single call is timed by ``evaluation.efficiency.timing``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import inf
from multiprocessing import get_context
from pathlib import Path

import torch

MOST_TURNS = 3


@dataclass(frozen=True)
class Target:
    """The ratio that a comparison should reach, or stay below."""

    ratio: float
    at_most: bool = False

    def met(self, ratio: float, tolerance: float = 0.0) -> bool:
        """Return whether a ratio reaches the target, or misses it by no more than a share of it."""
        return (self.ratio / ratio if self.at_most else ratio / self.ratio) >= 1 - tolerance

    def check(self, name: str, ratio: float, tolerance: float = 0.0) -> bool:
        """Print a ratio beside the target; return False if it misses that by more than the tolerance."""
        tolerated = self.met(ratio, tolerance)
        remark = "" if self.met(ratio) else "   missed, within the tolerance" if tolerated else "   MISSED"
        print(f"{name}: {ratio:.2f} (at {'most' if self.at_most else 'least'} {self.ratio:g}){remark}", flush=True)
        return tolerated


def run_comparisons(description: str, comparisons: Callable[[str, float], Iterable[bool]]) -> int:
    """Run a module's comparisons from the command line; return 1 if one misses its target, else 0.

    Args:
        description: shown by ``--help``.
        comparisons: from the device and the tolerance, whether each comparison meets its target.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share by which a ratio may miss its target without exit status 1, for a busy machine (0)",
    )
    arguments = parser.parse_args()
    return int(not all(list(comparisons(arguments.device, arguments.tolerance))))


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 0 and less than 1")
    return value


def best_of_turns(
    turn: Callable[[], Mapping[str, float]], met: Callable[[dict[str, float]], bool], most: int = MOST_TURNS
) -> dict[str, float]:
    """Return the smallest value of each measurement over several turns.

    Another program slows whatever runs beside it, so a missed target is measured again.

    Args:
        turn: name to seconds or bytes, the smaller the better.
        met: whether the values so far meet all targets, which ends the turns.
        most: number of turns.
    """
    best: dict[str, float] = {}
    for _ in range(most):
        best = {name: min(value, best.get(name, inf)) for name, value in turn().items()}
        if met(best):
            break
    return best


def in_a_new_process(function: Callable, *arguments: object, environment: Mapping[str, str] | None = None):
    """Return the result of a call that starts with a fresh interpreter and an empty memory."""
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def restart_peak_memory(device: str) -> None:
    """Measure peak memory from here on."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: VmHWM becomes the current size


def peak_memory(device: str) -> int:
    """Return the most bytes that tensors took on the GPU, or that the process had in memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])
