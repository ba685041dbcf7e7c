# SPDX-License-Identifier: Apache-2.0
"""One digest per job of everything in the configuration that decides its result.

A changed entry makes its own jobs stale and no others. What reaches a job as an input file is not part of its digest.
"""

from __future__ import annotations

from typing import Any

from dcae.benchmark.benchmark import Benchmark, GenerationCell, ReconstructionCell, Training
from dcae.benchmark.entries import Entry, digest

HOW_IT_IS_TRAINED = ("recipe", "start_from")
HOW_IT_IS_SAMPLED = ("sampler", "sampling_steps", "guidance_scale", "guided_channels")


def _without(entry: Entry, *fields: str) -> dict[str, Any]:
    return {key: value for key, value in entry.decisive().items() if key not in fields}


def training_digest(benchmark: Benchmark, training: Training) -> str:
    """Of one phase: the architecture, the phase, its data and the seed (what came before is an input file)."""
    entry = benchmark.autoencoder(training.autoencoder)
    recipe = benchmark.recipe(entry.recipe)
    phase = next(each for each in recipe.phases if each.name == training.phase)
    architecture = _without(entry, *HOW_IT_IS_TRAINED)
    datasets = [benchmark.dataset(name) for name in sorted(recipe.datasets)]
    return digest(
        architecture, phase.model_dump(mode="json", exclude_none=True), recipe.datasets, *datasets, benchmark.seed
    )


def autoencoder_digest(benchmark: Benchmark, name: str) -> str:
    """Of how an autoencoder is built and scaled; its training is an input file, so the recipe is left out."""
    entry = benchmark.autoencoder(name)
    below = [autoencoder_digest(benchmark, entry.autoencoder)] if entry.kind == "space-to-channel" else []
    return digest(_without(entry, *HOW_IT_IS_TRAINED), *below)


def reference_digest(benchmark: Benchmark, dataset: str, resolution: int, purpose: str) -> str:
    """Of the features of real images."""
    return digest(benchmark.dataset(dataset), resolution, benchmark.protocol(purpose))


def reconstruction_digest(benchmark: Benchmark, cell: ReconstructionCell) -> str:
    """Of a reconstruction record; the trained weights and the reference are input files."""
    return digest(
        autoencoder_digest(benchmark, cell.autoencoder),
        benchmark.dataset(cell.dataset),
        cell.resolution,
        benchmark.protocol("reconstruction"),
        benchmark.seed,
    )


def latents_digest(benchmark: Benchmark, dataset: str, resolution: int, autoencoder: str) -> str:
    """Of a data set's latents; the trained weights are an input file."""
    return digest(autoencoder_digest(benchmark, autoencoder), benchmark.dataset(dataset), resolution, benchmark.seed)


def denoiser_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of the training of a diffusion model on these latents."""
    diffusion = benchmark.diffusion(cell.diffusion)
    architecture = _without(diffusion, *HOW_IT_IS_SAMPLED)
    latents = latents_digest(benchmark, cell.dataset, cell.resolution, cell.autoencoder)
    return digest(architecture, benchmark.recipe(diffusion.recipe), latents, cell.patch_size, benchmark.seed)


def generation_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of a generation record; the weights and the reference are input files."""
    latents = latents_digest(benchmark, cell.dataset, cell.resolution, cell.autoencoder)
    protocol = benchmark.protocol("generation")
    return digest(benchmark.diffusion(cell.diffusion), latents, cell.patch_size, protocol, benchmark.seed)


def efficiency_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of an efficiency record, which depends on shapes only."""
    autoencoder = benchmark.autoencoder(cell.autoencoder)
    side = cell.resolution // autoencoder.spatial_compression
    shape = [autoencoder.latent_channels, side, side]
    return digest(benchmark.diffusion(cell.diffusion), shape, cell.patch_size, benchmark.protocol("efficiency"))
