# SPDX-License-Identifier: Apache-2.0
"""``make bench``: how long a user waits for what should be quick, beside the promise; fails if one is broken.

Each figure is the best of three runs, so that a busy machine does not break a promise that the code keeps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.promises import Verdict, add_tolerance, judge

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent


def seconds(*command: str) -> float:
    """Wall-clock time of a command, best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        times.append(time.perf_counter() - start)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return min(times)


def finished_again() -> float | None:
    """Time of a run that finds nothing to do; ``None`` if the demo has not run."""
    command = [str(PROGRAMS / "snakemake"), "--cores", "all"]
    planned = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    return seconds(*command) if "Nothing to be done" in planned.stdout + planned.stderr else None


def scenes_per_second() -> float:
    """Images of 64 px per second that one core draws."""
    from dcae.benchmark import Config
    from dcae.data.loading import open_dataset

    scenes = open_dataset(Config().entry("datasets", "scenes"), "train", 64)
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for index in range(200):
            scenes[index]
        rates.append(200 / (time.perf_counter() - start))
    return max(rates)


# What is measured, how, its unit, the promise, and whether less (-1) or more (1) is better.
FIGURES: list[tuple[str, Callable[[], float | None], str, float, int]] = [
    ("import dcae.benchmark", lambda: seconds(sys.executable, "-c", "import dcae.benchmark"), "s", 0.5, -1),
    ("dcae --help", lambda: seconds(str(PROGRAMS / "dcae"), "--help"), "s", 2, -1),
    ("snakemake --dry-run", lambda: seconds(str(PROGRAMS / "snakemake"), "--dry-run"), "s", 5, -1),
    ("snakemake, nothing to do", finished_again, "s", 10, -1),
    ("scenes at 64 px, one core", scenes_per_second, "images/s", 500, 1),
]


def main() -> int:
    """Print each figure beside its promise; 1 if one is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_tolerance(parser)
    tolerance = parser.parse_args().tolerance
    verdicts = []
    for name, measure, unit, promise, better in FIGURES:
        value = measure()
        if value is None:
            print(f"{name:28} not measured: run `make demo` first")
            continue
        verdicts.append(judge((value / promise) ** better, tolerance))
        comparison = "at most" if better < 0 else "at least"
        print(f"{name:28}{value:8.2f} {unit:9} {comparison} {promise:g}{verdicts[-1]}", flush=True)
    return int(Verdict.BROKEN in verdicts)


if __name__ == "__main__":
    sys.exit(main())
