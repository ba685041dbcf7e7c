# SPDX-License-Identifier: Apache-2.0
"""Preparations before Snakemake runs a job: stale locks, notices, and the path of commands."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import IO, Any

from dcae.benchmark import Benchmark
from workflow import gpu_pool
from workflow.planning.site import gpus_here


def release_locks_of_dead_runs(folder: Path) -> IO:
    """Let a run start after a killed one, while two live runs still collide.

    Snakemake locks a folder with plain files, which stay when it is killed. Every run of this workflow therefore also
    holds a shared ``flock``, which the kernel releases on any death. Whoever gets that lock exclusively is alone, so
    the plain files that it finds belong to the dead.

    Args:
        folder: Snakemake's own, ``.snakemake``.

    Returns:
        The held lock, which the caller keeps open for as long as it lives.
    """
    folder.mkdir(exist_ok=True)
    lock = (folder / "live-runs.lock").open("a+")  # NFS gives shared locks only on files that can be read
    try:
        if _is_alone(lock):
            stale = folder / "locks"
            if stale.is_dir() and any(stale.iterdir()):
                print("a killed run left its lock here; no run is alive, so it is removed", file=sys.stderr)
                shutil.rmtree(stale)
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        print(
            f"{lock.name}: this file system has no locks ({error}); after a killed run use snakemake --unlock",
            file=sys.stderr,
        )
    return lock


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
