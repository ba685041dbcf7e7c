# SPDX-License-Identifier: Apache-2.0
"""``dcae tables`` and ``dcae figures``, and those of a suite: pure functions of records and published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record
from workflow.commands import options

if TYPE_CHECKING:
    from evaluation.published import Published


def _gan(phases) -> str | None:
    """What the phases with a GAN loss train: ``all`` if any of them does, ``none`` if there is no such phase."""
    if phases is None:
        return None
    trained = [phase.trains for phase in phases if phase.losses.gan]
    return "all" if "all" in trained else trained[-1] if trained else "none"


def _context(benchmark: Benchmark, cell: ReconstructionCell | GenerationCell, published) -> dict[str, Any]:
    """A cell as the tables know it: what a record says of it, and how it is named, grouped and compared."""
    entry = benchmark.autoencoder(cell.autoencoder)
    phases = benchmark.recipe(entry.recipe).phases if entry.recipe else None
    return {
        **vars(cell),
        "autoencoder_paper_name": entry.paper_name,
        "autoencoder_kind": entry.kind,
        "residual_shortcuts": entry.shortcut != "none" if entry.kind == "dc-ae" else None,
        "high_resolution_phase": any(phase.trains == "middle" for phase in phases) if phases else None,
        "gan": _gan(phases),
        "built_on": entry.autoencoder if entry.kind == "space-to-channel" else None,
        "spatial_compression": entry.spatial_compression,
        "latent_channels": entry.latent_channels,
        "group": benchmark.group(cell.autoencoder),
        "dataset_paper_name": benchmark.dataset(cell.dataset).paper_name,
        "published_dataset": published.dataset if published else None,
        "published_resolution": published.resolution if published else None,
    }


def _reconstruction_context(benchmark: Benchmark, cell: ReconstructionCell) -> dict[str, Any]:
    return _context(benchmark, cell, benchmark.content.reconstruction.datasets[cell.dataset][cell.resolution])


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


def tables(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Write Tables 1 to 5 from the records that are there, the published numbers beside them. Trains nothing."""
    from evaluation import build_tables, check_controls, write_tables

    benchmark = Benchmark.load(benchmark_file)
    records = read_records(benchmark, results)
    for check in check_controls(records):
        print(check)
    planned = [context for _, context in planned_cells(benchmark)]
    built = build_tables(records, benchmark.name, planned=planned)
    written = write_tables(built, results / benchmark.name / "tables")
    print(f"{len(records)} records: {', '.join(str(path) for path in written)}")


def figures(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Draw the figures from the records and sample images that are there."""
    from evaluation import draw_figures

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
