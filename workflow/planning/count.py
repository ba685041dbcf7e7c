# SPDX-License-Identifier: Apache-2.0
"""Counts the works of a benchmark that have no row in ``costs.csv`` yet."""

from __future__ import annotations

from dcae.benchmark import Benchmark, ResolvedGeneration
from workflow.planning.costs import CODER_RESOLUTION, Cost, Costs, Work


def count_missing(benchmark: Benchmark, costs: Costs) -> None:
    """Count and write one work after the other; a stopped run resumes."""
    missing = costs.missing(benchmark)
    for number, work in enumerate(missing, start=1):
        print(f"counting {number}/{len(missing)}: {work.kind} {work.subject}", flush=True)
        costs.add(work, count(work))


def count(work: Work) -> Cost:
    """Return the counted cost of a work."""
    from evaluation.efficiency import counting

    if work.kind == "train autoencoder":
        found = counting.count_phase(work.of.entry, work.of.settings)
    elif work.kind in ("encode", "decode"):
        found = counting.count_coder(work.of, CODER_RESOLUTION, work.kind)
    else:
        found = counting.count_denoiser(_shape(work.of), work.of.recipe.gradient_checkpointing)
    return Cost(found.parameters, found.gmacs, found.fixed_gib, found.image_gib)


def _shape(cell: ResolvedGeneration):
    from evaluation.efficiency.denoiser import DenoiserShape

    channels, classes = cell.autoencoder.entry.latent_channels, CLASSES if cell.diffusion.classes(1) else 0
    return DenoiserShape(cell.diffusion, channels, cell.latent_size, cell.patch_size, classes)


CLASSES = 1000
"""Of a class-conditional model: how many there are is known by the images alone, and decides 0.2 % at most."""
