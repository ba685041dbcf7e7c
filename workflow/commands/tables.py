# SPDX-License-Identifier: Apache-2.0
"""``dcae tables``: every table of a benchmark, a pure function of records and published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcae.benchmark import Benchmark, Record
from evaluation.tables.cells import planned_cells
from evaluation.tables.registry import write_tables
from evaluation.tables.rows import Result
from workflow import layout
from workflow.commands import options


def tables(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path(layout.RESULTS)) -> None:
    """Write every table from the records that are there, with the published numbers. Trains nothing.

    Some tables depend on the benchmark: literature values need released autoencoders, the tables of subsets and of
    generation protocols need protocols that ask for them.
    """
    from evaluation.tables.controls import check_controls

    benchmark = Benchmark.load(benchmark_file)
    measured = read_results(benchmark, results)
    for check in check_controls(result.record for result in measured):
        print(check)
    per_image = read_per_image(benchmark, results, measured)
    written = write_tables(benchmark, measured, per_image, layout.file(benchmark.name, layout.TABLES, results))
    print(f"{len(measured)} records: {', '.join(str(path) for path in written)}")


def read_results(benchmark: Benchmark, results: Path) -> list[Result]:
    """Read the records of a benchmark's cells, in the order of the benchmark."""
    found: dict[tuple, Record] = {}
    for path in sorted(layout.file(benchmark.name, layout.RECORDS, results).rglob("*.json")):
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
    """Read the per-image values of the reconstructions, by cell, where they are there."""
    from evaluation.metrics.paired import read_rows

    found = {}
    for result in (each for each in measured if each.kind == "reconstruction"):
        path = layout.file(benchmark.name, layout.PER_IMAGE, results, **result.record.cell)
        if path.is_file():
            found[result.cell.identity] = read_rows(path)
    return found
