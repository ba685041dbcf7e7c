# SPDX-License-Identifier: Apache-2.0
"""The GPUs of this machine, handed out to jobs that run side by side.

A run of Snakemake on one machine names the GPUs to its jobs (``DCAE_GPU_POOL``). A job takes as many as it was given,
sees no others (``CUDA_VISIBLE_DEVICES``), and holds them by locks, which the kernel releases when it ends. Other runs
of this user respect the locks. On a cluster Slurm does all of this.

    python -m workflow.gpu_pool 2 torchrun ...      takes two GPUs and runs a command
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

POOL = "DCAE_GPU_POOL"
"""Environment variable of jobs: numbers of the GPUs, as in CUDA_VISIBLE_DEVICES."""

SECONDS_BETWEEN_LOOKS = 1.0


def offer(gpus: Sequence[str]) -> None:
    """Name GPUs to the jobs of this process."""
    if gpus:
        os.environ[POOL] = ",".join(gpus)


def take(count: int = 1) -> None:
    """Make as many GPUs of the pool as asked for the only visible ones, for as long as this process lives.

    Waits for others to give them back. Does nothing without a pool, or in a process whose parent has taken from it.
    """
    pool = [gpu for gpu in os.environ.pop(POOL, "").split(",") if gpu]
    if not pool:
        return
    count = min(count, len(pool))
    folder = Path(tempfile.gettempdir()) / f"dcae-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while len(held := _free(pool, count, folder)) < count:
        for file in held.values():
            os.close(file)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    for file in held.values():
        os.set_inheritable(file, True)  # also by the command that this process becomes
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)


def _free(pool: Sequence[str], count: int, folder: Path) -> dict[str, int]:
    """Lock up to ``count`` free GPUs; return their locks by number."""
    held: dict[str, int] = {}
    for gpu in pool:
        if len(held) == count:
            break
        file = os.open(folder / f"{gpu.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            held[gpu] = file
    return held


def main() -> None:
    """Take GPUs, and become the command."""
    take(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
