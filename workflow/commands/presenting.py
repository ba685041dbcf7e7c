# SPDX-License-Identifier: Apache-2.0
"""``dcae tables`` and ``dcae figures``, and those of a suite, from records and published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcae.benchmark import Benchmark, Record
from evaluation.tables.cells import planned_cells
from evaluation.tables.registry import write_tables
from evaluation.tables.rows import Result
from workflow.commands import options

if TYPE_CHECKING:
    from evaluation.published import Published


def read_results(benchmark: Benchmark, results: Path) -> list[Result]:
    """Read the records of a benchmark's cells, in its order."""
    found: dict[tuple, Record] = {}
    for path in sorted((results / benchmark.name / "records").rglob("*.json")):
        record = Record.read(path)
        found[record.kind, tuple(sorted(record.cell.items()))] = record
    ordered = []
    for kind, cell in planned_cells(benchmark):
        names = ("dataset", "resolution", "autoencoder", "diffusion", "patch_size")
        measured = {name: value for name in names if (value := getattr(cell, name)) is not None}
        record = found.pop((kind, tuple(sorted(measured.items()))), None)
        if record:
            ordered.append(Result(cell, record))
    for record in found.values():
        print(f"left out, since {benchmark.path} does not name it: {record.kind} {record.cell}")
    return ordered


def read_per_image(benchmark: Benchmark, results: Path, measured: list[Result]) -> dict[tuple, Any]:
    """Read the values of every image of the reconstructions, by cell, where they are there."""
    from evaluation.metrics.paired import read_rows

    found = {}
    for cell in (result.cell for result in measured if result.kind == "reconstruction"):
        path = (
            results / benchmark.name / "per_image" / f"{cell.dataset}-{cell.resolution}" / f"{cell.autoencoder}.parquet"
        )
        if path.is_file():
            found[cell.identity] = read_rows(path)
    return found


def tables(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Write the benchmark's tables from the existing records, with the published numbers. Trains nothing."""
    from evaluation.tables.controls import check_controls

    benchmark = Benchmark.load(benchmark_file)
    measured = read_results(benchmark, results)
    for check in check_controls(result.record for result in measured):
        print(check)
    per_image = read_per_image(benchmark, results, measured)
    written = write_tables(benchmark, measured, per_image, results / benchmark.name / "tables")
    print(f"{len(measured)} records: {', '.join(str(path) for path in written)}")


def figures(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path("results")) -> None:
    """Draw the figures from the existing records and sample images."""
    from evaluation.figures.registry import draw_figures

    benchmark = Benchmark.load(benchmark_file)
    folder = results / benchmark.name
    written = draw_figures(read_results(benchmark, results), folder / "samples", folder / "figures")
    print(f"figures: {', '.join(str(path) for path in written)}")


def present_suite(folder: Path, published: Published) -> list[Path]:
    """Write tables and figures of the records that ``dcae profile --suite`` left in a folder. Returns the paths."""
    from evaluation.efficiency.suite import read_cell
    from evaluation.figures.efficiency import draw_suite_figures
    from evaluation.tables.efficiency import build_suite_tables
    from evaluation.tables.formats import write_table

    def order(result: Result) -> tuple:
        cell = result.cell
        size = cell.spatial_compression, -(cell.patch_size or 0)
        return cell.tables, cell.resolution, cell.diffusion or "", *size, cell.autoencoder

    records = [Record.read(path) for path in sorted((folder / "records").rglob("*.json"))]
    results = sorted((Result(read_cell(record), record) for record in records), key=order)
    written = []
    for name, table in build_suite_tables(results, published).items():
        written += write_table(table, folder / "tables", name)
    return written + draw_suite_figures(results, published, folder / "figures")
