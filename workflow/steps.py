# SPDX-License-Identifier: Apache-2.0
"""Which code decides the result of each step."""

from __future__ import annotations

from collections.abc import Iterable

from dcae.benchmark import Benchmark, GenerationCell
from dcae.benchmark.entries import digest
from dcae.benchmark.sources import code_digest

# The modules of each step; what they import counts too.
MODULES = {
    "train_autoencoder": ("dcae.training.autoencoder",),
    "train_denoiser": ("dcae.training.denoiser",),
    "encode": ("dcae.diffusion.latents.encode", "dcae.autoencoders.loading", "dcae.data.loading"),
    "captions": ("dcae.diffusion.captions.encode", "dcae.diffusion.captions.t5", "dcae.data.loading"),
    "reference": ("evaluation.features.reference", "dcae.data.loading"),
    "measure": ("evaluation.quality.one_pass", "dcae.autoencoders.loading", "dcae.data.loading"),  # a part of evaluate
    "evaluate": ("evaluation.quality.reconstruction", "dcae.autoencoders.loading", "dcae.data.loading"),
    "generate": (
        "evaluation.quality.generation",
        "dcae.autoencoders.loading",
        "dcae.data.loading",
        "dcae.diffusion.models.checkpoint",
    ),
    "tables": (
        *("evaluation.tables.paper", "evaluation.tables.paired", "evaluation.tables.protocols"),
        *("evaluation.tables.ablations", "evaluation.tables.choices", "evaluation.tables.literature"),
        *("evaluation.tables.registry", "evaluation.tables.cells"),
        "workflow.commands.presenting",
    ),
    "profile": ("evaluation.efficiency.denoiser", "dcae.diffusion.models.build"),
    "figures": (
        *("evaluation.figures.registry", "evaluation.figures.figure2", "evaluation.figures.figure3"),
        *("evaluation.figures.figure5", "evaluation.figures.samples", "workflow.commands.presenting"),
    ),
}


def code_of(
    step: str,
    benchmark: Benchmark,
    datasets: Iterable[str] = (),
    autoencoder: str | None = None,
    diffusion: str | None = None,
) -> str:
    """Digest of the code that decides a step for the given entries, and of no other code."""
    kinds = {benchmark.dataset(name).kind for name in datasets}
    factory = None
    while autoencoder:
        entry = benchmark.autoencoder(autoencoder)
        kinds.add(entry.kind)
        factory = factory or getattr(entry, "factory", None)
        autoencoder = entry.autoencoder if entry.kind == "space-to-channel" else None
    if diffusion:
        kinds.add(benchmark.diffusion(diffusion).kind)
    return code_digest(MODULES[step], frozenset(kinds), factory)


def code_of_denoiser(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Digest of the code of a cell's training; where that encodes images itself, of the code for it, too."""
    training = code_of("train_denoiser", benchmark, diffusion=cell.diffusion)
    if benchmark.recipe(benchmark.diffusion(cell.diffusion).recipe).latents == "cached":
        return training
    encoding = code_of("encode", benchmark, [cell.dataset], cell.autoencoder)
    return digest(training, encoding, code_digest(("dcae.diffusion.latents.on_the_fly",)))


def code_of_generation(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Digest of the code of a cell's samples and their measures; where weights are released, of reading them, too."""
    datasets = {cell.dataset, benchmark.evaluation_dataset(cell)}
    sampling = code_of("generate", benchmark, datasets, cell.autoencoder, cell.diffusion)
    if not benchmark.is_released(cell.diffusion):
        return sampling
    return digest(sampling, code_digest(("dcae.diffusion.models.released",)))
