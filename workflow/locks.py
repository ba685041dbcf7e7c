# SPDX-License-Identifier: Apache-2.0
"""Lets a run start after a killed one, while two live runs still collide.

Snakemake locks a folder with plain files, which stay when it is killed. Every run of this workflow therefore also
holds a shared ``flock``, which the kernel releases on any death. Whoever gets that lock exclusively is alone, so the
plain files that it finds belong to the dead.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path
from typing import IO


def release_locks_of_dead_runs(folder: Path) -> IO:
    """Remove Snakemake's locks under its folder (``.snakemake``) if no other run is alive; returns the held lock file.

    The caller keeps the file open for as long as it lives.
    """
    folder.mkdir(exist_ok=True)
    lock = (folder / "live-runs.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        stale = folder / "locks"
        if stale.is_dir() and any(stale.iterdir()):
            print("a killed run left its lock here; no run is alive, so it is removed", file=sys.stderr)
            shutil.rmtree(stale)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock
