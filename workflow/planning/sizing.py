# SPDX-License-Identifier: Apache-2.0
"""GPUs, memory and run time of a job, from the work that it does and the limits of the site."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workflow.planning.site import Site

SAFETY = 1.5  # of run times: estimates are of speed alone, and nodes differ
SHORTEST_MINUTES = 30
SPARE_ATTEMPTS = 4  # beside those that the run time needs; two without progress end a training anyway
FILLED = 0.92  # of a GPU's memory: allocators leave gaps
CONTEXT_GIB = 2.0  # CUDA's context, workspaces of cuDNN and NCCL's buffers


@dataclass(frozen=True)
class Need:
    """What a job needs, whatever it runs on.

    Attributes:
        gpu_hours: on one GPU.
        fixed_gib: GPU memory at any batch size.
        image_gib: GPU memory for each image that is there at once.
        parallel_gib: more, if several GPUs exchange gradients.
        batch: images of a step over all GPUs; of other jobs, on each.
        splits: the GPUs share the batch, as in training.
        accumulates: a GPU may take its share in parts without another result.
        most_gpus: that the job can use.
    """

    gpu_hours: float
    fixed_gib: float
    image_gib: float
    parallel_gib: float = 0.0
    batch: int = 1
    splits: bool = False
    accumulates: bool = False
    most_gpus: int | None = None


@dataclass(frozen=True)
class Size:
    """What a job asks for.

    Attributes:
        accumulation: parts of a GPU's share of a batch.
        gpu_memory_gib: peak on each GPU.
        minutes: limit of one attempt.
        attempts: that it may take.
        problem: why it cannot run here; empty if it can.
    """

    gpus: int
    accumulation: int
    gpu_memory_gib: float
    minutes: int
    attempts: int
    problem: str = ""


def size(need: Need, site: Site) -> Size:
    """Return the fewest GPUs on which a job fits and ends within one attempt; else the most, and several attempts."""
    fitting: list[Size] = []
    tried: list[Size] = []
    for gpus in range(1, min(site.gpus_per_node, need.most_gpus or site.gpus_per_node) + 1):
        if gpus & (gpus - 1) or (need.splits and need.batch % gpus):
            continue
        for parts in _parts(need, gpus):
            found = _size(need, site, gpus, parts)
            tried.append(found)
            if not found.problem:
                fitting.append(found)
                break
        if fitting and fitting[-1].attempts == 1 + SPARE_ATTEMPTS:
            break
    return fitting[-1] if fitting else min(tried, key=lambda each: each.gpu_memory_gib)


def parts_of(need: Need, site: Site, gpus: int) -> int:
    """Return the fewest parts of each GPU's share of a batch that fit; as many as there are if none does."""
    parts = _parts(need, gpus) or [1]
    return next((each for each in parts if not _size(need, site, gpus, each).problem), parts[-1])


def _parts(need: Need, gpus: int) -> list[int]:
    share = need.batch // gpus
    return [2**n for n in range(share.bit_length()) if share % 2**n == 0] if need.accumulates else [1]


def _size(need: Need, site: Site, gpus: int, parts: int) -> Size:
    images = need.batch / (gpus if need.splits else 1) / parts
    memory = CONTEXT_GIB + need.fixed_gib + need.image_gib * images + (need.parallel_gib if gpus > 1 else 0)
    minutes = max(SHORTEST_MINUTES, math.ceil(60 * SAFETY * need.gpu_hours / gpus))
    attempts = math.ceil(minutes / site.longest_minutes) if site.longest_minutes else 1
    problem = ""
    if memory > FILLED * site.gpu_memory_gib:
        problem = f"needs {memory:.0f} GiB on each GPU, and {FILLED * site.gpu_memory_gib:.0f} can be used"
    limit = min(minutes, site.longest_minutes or minutes)
    return Size(gpus, parts, memory, limit, attempts + SPARE_ATTEMPTS, problem)
