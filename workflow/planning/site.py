# SPDX-License-Identifier: Apache-2.0
"""The machine that jobs run on: a cluster as ``slurm/site.yaml`` describes it, or this one."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, TypeAdapter

from dcae.benchmark.config import read_yaml, validate

SITE_FILE = Path("slurm/site.yaml")
GpuName = Literal["h100", "h200", "a100"]


@dataclass(frozen=True)
class Gpu:
    """Memory in GiB as drivers report it, and dense peak rates in TFLOP/s (NVIDIA's data sheets, SXM boards)."""

    memory_gib: float
    half: float
    tf32: float
    fp32: float


GPUS: dict[str, Gpu] = {
    "h100": Gpu(79.0, 989, 495, 67),
    "h200": Gpu(139.0, 989, 495, 67),
    "a100": Gpu(79.0, 312, 156, 19.5),
}


class Site(BaseModel):
    """Limits of a job. ``None``: there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: GpuName = "h100"
    gpus_per_node: PositiveInt = 1
    longest_minutes: PositiveInt | None = None
    cpus_per_gpu: PositiveInt = 1
    memory_mb_per_gpu: PositiveInt = 64_000
    memory_gib: float | None = None  # of each GPU, if it is not that of ``gpu``

    @classmethod
    def read(cls, path: Path | str) -> Site:
        """Read the file of a cluster; raises ``ConfigError`` for a wrong field."""
        return validate(TypeAdapter(cls), read_yaml(Path(path)), Path(path))

    @classmethod
    def here(cls) -> Site:
        """Return this machine: its GPUs, no limit of time. Without GPUs, one process on the CPU for each job."""
        gpus = gpus_here()
        known = [name for name in GPUS if gpus and name in gpus[0].name.lower()]
        memory = gpus[0].memory_gib if gpus else None
        return cls(gpu=known[0] if known else "h100", gpus_per_node=len(gpus) or 1, memory_gib=memory)

    @property
    def speeds(self) -> Gpu:
        """The peak rates of its GPUs."""
        return GPUS[self.gpu]

    @property
    def gpu_memory_gib(self) -> float:
        return self.memory_gib or self.speeds.memory_gib


@dataclass(frozen=True)
class GpuHere:
    """A GPU of this machine: its number or UUID for CUDA_VISIBLE_DEVICES, name and memory."""

    number: str
    name: str
    memory_gib: float


def gpus_here() -> list[GpuHere]:
    """Return NVIDIA's GPUs of this machine, those of CUDA_VISIBLE_DEVICES if it is set; none without the driver."""
    fields = "--query-gpu=index,uuid,name,memory.total"
    try:
        command = ["nvidia-smi", fields, "--format=csv,noheader,nounits"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    found = {}
    for line in lines:
        index, uuid, name, memory = line.split(", ")
        found |= dict.fromkeys((index, uuid), GpuHere(index, name, float(memory) / 1024))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list({each.number: each for each in found.values()}.values())
    unknown = next(iter(found.values()), None)  # a part of a GPU (MIG) has a name of its own
    return [
        GpuHere(each, (gpu := found.get(each, unknown)).name, gpu.memory_gib) for each in visible.split(",") if each
    ]
