# SPDX-License-Identifier: Apache-2.0
"""``dcae tables`` and ``dcae figures``: pure functions of the records and published numbers that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record
from workflow.commands import options


def _twin(published) -> dict[str, Any]:
    return {
        "published_dataset": published.dataset if published else None,
        "published_resolution": published.resolution if published else None,
    }


def _autoencoder_context(benchmark: Benchmark, name: str) -> dict[str, Any]:
    entry = benchmark.autoencoder(name)
    return {
        "autoencoder_paper_name": entry.paper_name,
        "spatial_compression": entry.spatial_compression,
        "latent_channels": entry.latent_channels,
        "group": benchmark.group(name),
    }


def _reconstruction_context(benchmark: Benchmark, cell: ReconstructionCell) -> dict[str, Any]:
    published = benchmark.content.reconstruction.datasets[cell.dataset][cell.resolution]
    return {**_autoencoder_context(benchmark, cell.autoencoder), **_twin(published)}


def _generation_context(benchmark: Benchmark, cell: GenerationCell) -> dict[str, Any]:
    plans = benchmark.generation_plans(cell)
    side = cell.resolution // benchmark.autoencoder(cell.autoencoder).spatial_compression
    return {
        **_autoencoder_context(benchmark, cell.autoencoder),
        **_twin(plans[0].published),
        "diffusion_paper_name": benchmark.diffusion(cell.diffusion).paper_name,
        "tokens": (side // cell.patch_size) ** 2,
        "tables": sorted({table for plan in plans for table in plan.tables}),
    }


def read_records(benchmark: Benchmark, results: Path) -> list[Record]:
    """The records of a benchmark's cells, in its order, each with what the tables say about its cell."""
    found = {}
    folder = results / benchmark.name / "records"
    for path in sorted(folder.rglob("*.json")):
        record = Record.read(path)
        found[record.kind, tuple(sorted(record.cell.items()))] = record

    def with_context(kind: str, cell, context: dict[str, Any]) -> list[Record]:
        record = found.pop((kind, tuple(sorted(vars(cell).items()))), None)
        return [record.model_copy(update={"cell": {**record.cell, **context}})] if record else []

    ordered = []
    for cell in benchmark.cells.reconstruction:
        ordered += with_context("reconstruction", cell, _reconstruction_context(benchmark, cell))
    for kind in ("generation", "efficiency"):
        for cell in benchmark.cells.generation:
            ordered += with_context(kind, cell, _generation_context(benchmark, cell))
    for record in found.values():
        print(f"not in {benchmark.path}, left out: {record.kind} {record.cell}")
    return ordered


def tables(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Write Tables 1, 2 and 3 from the records that are there, the published numbers beside them. Trains nothing."""
    from evaluation import build_tables, check_controls, write_tables

    benchmark = Benchmark.load(benchmark_file)
    records = read_records(benchmark, results)
    for check in check_controls(records):
        print(check)
    written = write_tables(build_tables(records), results / benchmark.name / "tables")
    print(f"{len(records)} records: {', '.join(str(path) for path in written)}")


def figures(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Draw the figures from the records and sample images that are there."""
    from evaluation import draw_figures

    benchmark = Benchmark.load(benchmark_file)
    folder = results / benchmark.name
    written = draw_figures(read_records(benchmark, results), folder / "samples", folder / "figures")
    print(f"figures: {', '.join(str(path) for path in written)}")
