# SPDX-License-Identifier: Apache-2.0
"""``dcae tables`` and ``dcae figures``, and those of a suite: pure functions of records and published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record, Training
from dcae.benchmark.benchmark_file import membership
from dcae.benchmark.entries import Phase
from workflow.commands import options

if TYPE_CHECKING:
    from evaluation.published import Published


def _phases(benchmark: Benchmark, training: Training | None) -> list[Phase]:
    """Every phase behind an autoencoder's weights, those of another one that it starts from included."""
    if training is None:
        return []
    phases = benchmark.recipe(benchmark.autoencoder(training.autoencoder).recipe).phases
    phase = next(phase for phase in phases if phase.name == training.phase)
    return [*_phases(benchmark, training.start), phase]


def _gan(phases: list[Phase] | None) -> str | None:
    """What the phases with a GAN loss train: ``all`` if any of them does, ``none`` if there is no such phase."""
    if phases is None:
        return None
    trained = [phase.trains for phase in phases if phase.losses.gan]
    return "all" if "all" in trained else trained[-1] if trained else "none"


def _context(benchmark: Benchmark, cell: ReconstructionCell | GenerationCell, published) -> dict[str, Any]:
    """A cell as the tables know it: what a record says of it, and how it is named, grouped and compared."""
    entry = benchmark.autoencoder(cell.autoencoder)
    phases = _phases(benchmark, benchmark.training(cell.autoencoder)) if entry.recipe else None
    return {
        **vars(cell),
        "autoencoder_paper_name": getattr(published, "autoencoder", None) or entry.paper_name,
        "autoencoder_kind": entry.kind,
        "residual_shortcuts": entry.shortcut != "none" if entry.kind == "dc-ae" else None,
        "high_resolution_phase": any(phase.trains == "middle" for phase in phases) if phases else None,
        "gan": _gan(phases),
        "built_on": entry.autoencoder if entry.kind == "space-to-channel" else None,
        "spatial_compression": entry.spatial_compression,
        "latent_channels": entry.latent_channels,
        "group": benchmark.group(cell.autoencoder),
        **membership(benchmark.content.studies, cell.autoencoder),
        "dataset_paper_name": benchmark.dataset(cell.dataset).paper_name,
        "published_dataset": published.dataset if published else None,
        "published_resolution": published.resolution if published else None,
    }


def _reconstruction_context(benchmark: Benchmark, cell: ReconstructionCell) -> dict[str, Any]:
    published = benchmark.content.reconstruction.datasets[cell.dataset][cell.resolution]
    of_these_weights = benchmark.autoencoder(cell.autoencoder).paper_datasets
    if published and of_these_weights is not None and published.dataset not in of_these_weights:
        published = None
    in_table_2 = cell.autoencoder in benchmark.content.with_rows
    return {**_context(benchmark, cell, published), "tables": [2] if in_table_2 else []}


def _generation_context(benchmark: Benchmark, cell: GenerationCell) -> dict[str, Any]:
    plans = benchmark.generation_plans(cell)
    side = cell.resolution // benchmark.autoencoder(cell.autoencoder).spatial_compression
    return {
        **_context(benchmark, cell, plans[0].published),
        "diffusion_paper_name": benchmark.diffusion(cell.diffusion).paper_name,
        "tokens": (side // cell.patch_size) ** 2,
        "tables": sorted({table for plan in plans for table in plan.tables}),
    }


def planned_cells(benchmark: Benchmark) -> list[tuple[str, dict[str, Any]]]:
    """Kind of record and cell of everything that the benchmark measures, in the order of its file."""
    reconstruction = [_reconstruction_context(benchmark, cell) for cell in benchmark.cells.reconstruction]
    generation = [_generation_context(benchmark, cell) for cell in benchmark.cells.generation]
    return [
        *(("reconstruction", context) for context in reconstruction),
        *(("generation", context) for context in generation),
        *(("efficiency", context) for context in generation),
    ]


def read_records(benchmark: Benchmark, results: Path) -> list[Record]:
    """The records of a benchmark's cells, in its order, each with what the tables say of its cell."""
    found: dict[tuple, Record] = {}
    for path in sorted((results / benchmark.name / "records").rglob("*.json")):
        record = Record.read(path)
        found[record.kind, tuple(sorted(record.cell.items()))] = record
    ordered = []
    for kind, context in planned_cells(benchmark):
        names = ("dataset", "resolution", "autoencoder", "diffusion", "patch_size")
        cell = {name: context[name] for name in names if name in context}
        record = found.pop((kind, tuple(sorted(cell.items()))), None)
        if record:
            ordered.append(record.model_copy(update={"cell": context}))
    for record in found.values():
        print(f"left out, since {benchmark.path} does not name it: {record.kind} {record.cell}")
    return ordered


def read_per_image(benchmark: Benchmark, results: Path, records: list[Record]) -> dict[tuple, Any]:
    """The values of every image of the reconstruction records, by cell, where they are there."""
    from evaluation.metrics.paired import read_rows
    from evaluation.tables.rows import identity

    found = {}
    for record in (record for record in records if record.kind == "reconstruction"):
        cell = record.cell
        place = f"{cell['dataset']}-{cell['resolution']}"
        path = results / benchmark.name / "per_image" / place / f"{cell['autoencoder']}.parquet"
        if path.is_file():
            found[identity(cell)] = read_rows(path)
    return found


def tables(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Write every table from the records that are there, the published numbers beside them. Trains nothing.

    A benchmark of released autoencoders also gets the table of what others have published about them, one whose
    protocols name subsets that of the subsets, and one with further protocols of generation that of these.
    """
    from evaluation.published_reconstruction import has_published_elsewhere
    from evaluation.tables.ablations import build_ablations
    from evaluation.tables.choices import Choice, build_choices
    from evaluation.tables.controls import check_controls
    from evaluation.tables.formats import write_tables
    from evaluation.tables.literature import build_published_elsewhere
    from evaluation.tables.paired import build_paired
    from evaluation.tables.paper import build_tables
    from evaluation.tables.protocols import build_protocols
    from evaluation.tables.subsets import build_subsets

    benchmark = Benchmark.load(benchmark_file)
    records = read_records(benchmark, results)
    for check in check_controls(records):
        print(check)
    planned = [context for _, context in planned_cells(benchmark)]
    per_image = read_per_image(benchmark, results, records)
    choices = [
        Choice(kind, entry.name, *chosen) for kind, entry in benchmark.entries_used() for chosen in entry.chosen()
    ]
    built = {
        **build_tables(records, benchmark.name, planned=planned, per_image=per_image),
        "ablations": build_ablations(records, benchmark.name, planned=planned),
        "paired": build_paired(records, per_image, benchmark.name),
        "protocols": build_protocols(records, benchmark.name),
        "choices": build_choices(choices, benchmark.name),
    }
    if has_published_elsewhere(benchmark.all_autoencoders):
        built["published_elsewhere"] = build_published_elsewhere(benchmark.all_autoencoders)
    if benchmark.further_protocols("generation"):
        built["generation_protocols"] = build_protocols(records, benchmark.name, "generation")
    if benchmark.has_subsets:
        built["subsets"] = build_subsets(records, benchmark.name)
    written = write_tables(built, results / benchmark.name / "tables")
    print(f"{len(records)} records: {', '.join(str(path) for path in written)}")


def figures(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Draw the figures from the records and sample images that are there."""
    from evaluation.figures.drawing import draw_figures

    benchmark = Benchmark.load(benchmark_file)
    folder = results / benchmark.name
    written = draw_figures(read_records(benchmark, results), folder / "samples", folder / "figures")
    print(f"figures: {', '.join(str(path) for path in written)}")


def present_suite(folder: Path, published: Published) -> list[Path]:
    """Write tables and figures of the records that ``dcae profile --suite`` left in a folder. Returns the paths."""
    from evaluation.figures.efficiency import draw_suite_figures
    from evaluation.tables.efficiency import build_suite_tables
    from evaluation.tables.formats import write_tables

    def order(record: Record) -> tuple:
        cell = record.cell
        size = cell["spatial_compression"], -cell.get("patch_size", 0)
        return cell.get("table", 0), cell["resolution"], cell.get("diffusion", ""), *size, cell["autoencoder"]

    records = sorted((Record.read(path) for path in sorted((folder / "records").rglob("*.json"))), key=order)
    written = write_tables(build_suite_tables(records, published), folder / "tables")
    return written + draw_suite_figures(records, published, folder / "figures")
