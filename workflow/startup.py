# SPDX-License-Identifier: Apache-2.0
"""Preparations before Snakemake runs a job: stale locks, notices, and the path of commands."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import IO, Any

from dcae.benchmark import Benchmark, ConfigError
from workflow import gpu_pool, layout
from workflow.planning.site import gpus_here


def release_locks_of_dead_runs(folder: Path, benchmark: str) -> IO:
    """Let a run of a benchmark start after a killed one, while two live runs of it still collide.

    Snakemake locks results with plain files, which stay when it is killed. Every run of this workflow therefore also
    holds a shared ``flock`` of its benchmark, which the kernel releases on any death. Whoever gets that lock
    exclusively is alone, so the plain files that name results of this benchmark belong to the dead.

    Args:
        folder: Snakemake's own, ``.snakemake``.
        benchmark: name of the benchmark.

    Returns:
        The held lock, which the caller keeps open for as long as it lives.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = folder / "live-runs" / f"{benchmark}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+", encoding="utf-8")  # NFS gives shared locks only on files that can be read
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; runs need a current folder that they can write to") from None
    try:
        if _is_alone(lock):
            stale = [each for each in folder.glob("locks/*.lock") if _names_results(each, benchmark)]
            if stale:
                print("a killed run left its lock here; no run is alive, so it is removed", file=sys.stderr)
                for each in stale:
                    each.unlink(missing_ok=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        print(
            f"{lock.name}: this file system has no locks ({error}); after a killed run use snakemake --unlock",
            file=sys.stderr,
        )
    return lock


def _names_results(lock: Path, benchmark: str) -> bool:
    """Return whether a lock of Snakemake, a list of files, is of a run of this benchmark."""
    folder = f"{layout.RESULTS}/{benchmark}/"
    return any(line.startswith(folder) for line in lock.read_text(encoding="utf-8").splitlines())


def _is_alone(lock: IO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def print_notices(benchmark: Benchmark) -> None:
    """Print notices about a benchmark to stderr, in dry runs as well."""
    for notice in benchmark.notices():
        print(f"notice: {notice}", file=sys.stderr)


def use_gpus_here(resources: MutableMapping[str, Any]) -> None:
    """Let jobs on this machine share its GPUs: as many at once as there are, or as ``--resources gpu=N`` says."""
    gpus = gpus_here()
    if gpus:
        gpu_pool.offer([gpu.number for gpu in gpus])
        if "gpu" not in resources:
            resources["gpu"] = len(gpus)


def put_own_commands_first() -> None:
    """Let jobs call the ``dcae`` of the environment that Snakemake itself runs in, activated or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
