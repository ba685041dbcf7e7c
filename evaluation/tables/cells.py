# SPDX-License-Identifier: Apache-2.0
"""The cells of a benchmark as tables and figures show them, from its file and its entries."""

from __future__ import annotations

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell
from dcae.benchmark.benchmark_file import membership, shown_beside
from dcae.benchmark.cells import ResolvedAutoencoder
from dcae.benchmark.entries import Phase
from evaluation.tables.rows import TableCell, entry_of


def _gan(phases: list[Phase] | None) -> str | None:
    """Parameters that the phases with a GAN loss train: ``all`` if any of them does, ``none`` without such a phase."""
    if phases is None:
        return None
    trained = [phase.trains for phase in phases if phase.losses.gan]
    return "all" if "all" in trained else trained[-1] if trained else "none"


def _adapted(phases: list[Phase] | None) -> str | None:
    """Parameters that a phase at a higher resolution than the first one trains; ``none`` without such a phase."""
    if phases is None:
        return None
    return next((phase.trains for phase in phases if phase.resolution > phases[0].resolution), "none")


def _is_supplied(autoencoder: ResolvedAutoencoder) -> bool:
    """Return whether weights are the user's: not trained here, and of no release."""
    known = autoencoder.training or autoencoder.group == "controls"
    return not known and (autoencoder.pretrained is None or bool(autoencoder.files))


def _table_cell(
    benchmark: Benchmark, cell: ReconstructionCell | GenerationCell, published, group: str | None = None, **others
) -> TableCell:
    autoencoder = benchmark.resolve_autoencoder(cell.autoencoder)
    entry = autoencoder.entry
    phases = [each.settings for each in autoencoder.training.chain] if entry.recipe else None
    return TableCell(
        **vars(cell),
        dataset_paper_name=benchmark.dataset(cell.dataset).paper_name,
        autoencoder_paper_name=getattr(published, "autoencoder", None) or entry.paper_name,
        published_dataset=published.dataset if published else None,
        published_resolution=published.resolution if published else None,
        spatial_compression=entry.spatial_compression,
        latent_channels=entry.latent_channels,
        group=group or autoencoder.group,
        **membership(benchmark.content.studies, entry_of(cell.autoencoder)),
        beside=shown_beside(benchmark.content.studies, entry_of(cell.autoencoder)),
        autoencoder_kind=entry.kind,
        residual_shortcuts=entry.shortcut != "none" if entry.kind == "dc-ae" else None,
        high_resolution_phase=_adapted(phases),
        gan=_gan(phases),
        built_on=entry.autoencoder if entry.kind == "space-to-channel" else None,
        trained=autoencoder.training is not None,
        supplied=_is_supplied(autoencoder),
        **others,
    )


def _reconstruction(benchmark: Benchmark, cell: ReconstructionCell) -> TableCell:
    published = benchmark.content.reconstruction.datasets[cell.dataset][cell.resolution]
    of_these_weights = benchmark.autoencoder(cell.autoencoder).paper_datasets
    if published and of_these_weights is not None and published.dataset not in of_these_weights:
        published = None
    in_table_2 = entry_of(cell.autoencoder) in benchmark.content.with_rows
    return _table_cell(benchmark, cell, published, tables=(2,) if in_table_2 else ())


def _generation(benchmark: Benchmark, cell: GenerationCell) -> TableCell:
    plans = benchmark.generation_plans(cell)
    side = cell.resolution // benchmark.autoencoder(cell.autoencoder).spatial_compression
    return _table_cell(
        benchmark,
        cell,
        plans[0].published,
        group="controls" if any(plan.control for plan in plans) else None,
        evaluated_on=benchmark.evaluation_dataset(cell),
        diffusion_paper_name=benchmark.diffusion(cell.diffusion).paper_name,
        tokens=(side // cell.patch_size) ** 2,
        tables=tuple(sorted({table for plan in plans for table in plan.tables})),
    )


def planned_cells(benchmark: Benchmark) -> list[tuple[str, TableCell]]:
    """Kind of record and cell of everything that a benchmark measures, in the order of its file."""
    reconstruction = [_reconstruction(benchmark, cell) for cell in benchmark.cells.reconstruction]
    generation = [_generation(benchmark, cell) for cell in benchmark.cells.generation]
    return [
        *(("reconstruction", cell) for cell in reconstruction),
        *((kind, cell) for kind in ("generation", "efficiency") for cell in generation),
    ]
