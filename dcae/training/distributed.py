# SPDX-License-Identifier: Apache-2.0
"""The processes of one training, started by torchrun, by srun, or alone; imports no torch.

Accelerate reads torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT). For
tasks of an srun they are set here from Slurm's own, so that one command works with every launcher.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h, man 3 mallopt
FIRST_PORT, PORTS = 20_000, 20_000


class NoMeetingPoint(RuntimeError):
    """The tasks of an srun do not know the address of the first node."""


def join_slurm_step() -> None:
    """Set torchrun's variables if this process is one of several tasks of an srun.

    Existing variables stay: those of torchrun within an srun, and MASTER_ADDR and MASTER_PORT set by the user.

    Raises:
        NoMeetingPoint: the address of the first node is unknown.
    """
    # Set only within srun; a batch script, which is one process, has SLURM_NTASKS too.
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or "RANK" in os.environ:
        return
    local = int(os.environ["SLURM_LOCALID"])
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    variables = {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": tasks,
        # Slurm shows a task either all GPUs of the job on its node or only its own.
        "LOCAL_RANK": local % len(visible) if visible else local,
        "LOCAL_WORLD_SIZE": tasks_on_node(os.environ["SLURM_STEP_TASKS_PER_NODE"], int(os.environ["SLURM_NODEID"])),
        "MASTER_PORT": FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS,
    }
    if "MASTER_ADDR" not in os.environ:
        variables["MASTER_ADDR"] = _first_node()
    for name, value in variables.items():
        os.environ.setdefault(name, str(value))


def tasks_on_node(tasks_per_node: str, node: int) -> int:
    """Return the number of tasks of a node from Slurm's format: ``8(x2),4`` means 8, 8 and 4."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks_per_node):
        counts += [int(count)] * int(times or 1)
    return counts[node]


def _first_node() -> str:
    """Return a name or address of the node with the first task.

    If the network does not resolve a node's name in Slurm, this is the address of the node that srun ran on, the first
    one of a batch job.
    """
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    candidates = [*_host_names(nodes)[:1], os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "")]
    for candidate in filter(None, candidates):
        try:
            socket.getaddrinfo(candidate, None)
        except OSError:
            continue
        return candidate
    raise NoMeetingPoint(
        f"the tasks of this srun on {nodes} do not know the address of the first node (tried "
        f"{', '.join(filter(None, candidates)) or 'nothing: no scontrol here'}); set MASTER_ADDR"
    )


def _host_names(nodes: str) -> list[str]:
    """Expand Slurm's ``n[1-2]`` to node names; empty without scontrol."""
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def own_cores() -> int:
    """Return the number of cores for this process: those of its Slurm task, or its share of the machine or task."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    granted = min(int(os.environ.get("SLURM_CPUS_PER_TASK", here)), here)  # Slurm's nodes may claim more than there are
    if "SLURM_CPUS_PER_TASK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        return granted
    return max(granted // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for later allocations; other C libraries stay unchanged.

    By default it returns large blocks to the system, which zeroes their pages at every use: a sixth of the time of a
    DC-AE training step on a CPU.
    """
    c_library = ctypes.CDLL(None)
    if not hasattr(c_library, "gnu_get_libc_version"):
        return
    c_library.mallopt(M_MMAP_MAX, 0)
    c_library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    c_library.mallopt(M_TOP_PAD, 2**26)
