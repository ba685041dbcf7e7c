# SPDX-License-Identifier: Apache-2.0
"""The processes of one training, however they were started: by torchrun, by srun, or one alone.

Accelerate reads torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT). The
tasks of an srun get the same variables here, made from Slurm's own, so that one command serves every launch.
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
    """The tasks of an srun cannot tell where the first of them runs."""


def join_slurm_step() -> None:
    """If this process is one of several tasks of an srun, set torchrun's variables; otherwise change nothing.

    What is set already stays: torchrun within an srun knows better, and MASTER_ADDR and MASTER_PORT may be chosen.

    Raises:
        NoMeetingPoint: no address of the first node is known here.
    """
    # Set within srun alone; SLURM_NTASKS is there in a batch script as well, which is one process all the same.
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
    """How many tasks a node has, from Slurm's ``8(x2),4``: 8, 8 and 4."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks_per_node):
        counts += [int(count)] * int(times or 1)
    return counts[node]


def _first_node() -> str:
    """A name or address of the node that has the first task.

    A node's name in Slurm need not be known to the network; then the address of the node that srun ran on is taken,
    which is the first one of a batch job.
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
    """The nodes of Slurm's ``n[1-2]``, none if there is no scontrol to ask."""
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def own_cores() -> int:
    """Cores that this process has to itself: those of its Slurm task, or its share of the machine's or the task's."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK")
    if granted and "TORCHELASTIC_RUN_ID" not in os.environ:
        return int(granted)
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(int(granted or here) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def keep_freed_memory() -> None:
    """Let glibc keep what this process frees, for its next allocations; other C libraries are left as they are.

    By default it hands large blocks back to the system, which fills their pages with zeros at every use. In a training
    step of DC-AE on a CPU that was a sixth of the time.
    """
    c_library = ctypes.CDLL(None)
    if not hasattr(c_library, "gnu_get_libc_version"):
        return
    c_library.mallopt(M_MMAP_MAX, 0)
    c_library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    c_library.mallopt(M_TOP_PAD, 2**26)
