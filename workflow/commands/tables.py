# SPDX-License-Identifier: Apache-2.0
"""``dcae tables``: every table of a benchmark, a pure function of records and published numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record
from dcae.benchmark.record import RecordError
from evaluation.metrics.registry import bounds
from evaluation.published import PUBLISHED_FOLDER
from evaluation.tables.cells import planned_cells
from evaluation.tables.registry import write_tables
from evaluation.tables.rows import Result
from workflow import layout
from workflow.bundle.contents import BundleError
from workflow.bundle.opening import is_bundle, opened
from workflow.commands import options
from workflow.staleness.steps import EVALUATE, GENERATE, PROFILE
from workflow.summary import failures

TOLERANCE = 1e-3  # of rounding: the distance of equal features is not quite zero


def tables(
    benchmark_file: options.BenchmarkFile,
    results: options.ResultsFolder = Path(layout.RESULTS),
    output: Annotated[
        Path | None, typer.Option(help="folder to write; default: BENCHMARK/tables in the results")
    ] = None,
) -> None:
    """Write every table from the records that are there, with the published numbers. Trains nothing.

    In place of a benchmark, a bundle of dcae bundle may be given, with --output. Files that are damaged or impossible
    are named and left out; the exit status is then 1.

    Some tables depend on the benchmark: literature values need released autoencoders, the tables of subsets and of
    generation protocols need protocols that ask for them.
    """
    if is_bundle(benchmark_file):
        if output is None:
            raise BundleError(f"{benchmark_file} is a bundle, which is left as it is; give --output FOLDER")
        with opened(benchmark_file) as bundle:
            _write(bundle.benchmark(), bundle.results, output, bundle.published)
        return
    benchmark = Benchmark.load(benchmark_file)
    _write(benchmark, results, output or layout.file(benchmark.name, layout.TABLES, results))


def _write(benchmark: Benchmark, results: Path, output: Path, published: Path | None = None) -> None:
    """Write the tables of a benchmark, or of a bundle with its own published numbers, which is never stale."""
    from evaluation.tables.controls import check_controls

    problems: list[str] = []
    measured = read_results(benchmark, results, problems)
    if not measured and not problems:
        folder = layout.file(benchmark.name, layout.RECORDS, results)
        print(f'nothing has run: no records of these cells in {folder}, so every cell reads "not run"', file=sys.stderr)
    if not published:
        for line in [*stale(benchmark, measured), *(failures(benchmark, results) if measured else [])]:
            print(line, file=sys.stderr)
    for check in check_controls(result.record for result in measured):
        print(check)
    per_image = read_per_image(benchmark, results, measured, problems)
    written = write_tables(benchmark, measured, per_image, output, published or PUBLISHED_FOLDER)
    print(f"{len(measured)} records: {', '.join(str(path) for path in written)}")
    finish(problems)


def stale(benchmark: Benchmark, measured: list[Result]) -> list[str]:
    """Return a line for each record of another configuration, or of another version of its step."""
    steps = {"reconstruction": (EVALUATE, ReconstructionCell), "generation": (GENERATE, GenerationCell)}
    lines = []
    for record in (each.record for each in measured):
        step, cell = steps.get(record.kind, (PROFILE, GenerationCell))
        made, reasons = record.provenance, []
        if made.results_version != step.version:
            reasons.append(f"it is of version {made.results_version} of its step, now {step.version}")
        if made.config_digest != step.configuration(benchmark.resolve(cell(**record.cell))):
            reasons.append("an entry, or a file that one names, has changed since")
        if reasons:
            lines.append(f"stale: {record.kind} of {' '.join(map(str, record.cell.values()))}: {'; '.join(reasons)}")
    return lines


def finish(problems: list[str]) -> None:
    """Name what was left out, and end with exit status 1 if anything was."""
    for problem in problems:
        print(f"LEFT OUT: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def read_results(benchmark: Benchmark, results: Path, problems: list[str] | None = None) -> list[Result]:
    """Read the records of a benchmark's cells, in the order of the benchmark.

    Args:
        problems: receives a line for each file that is no record of its cell, or a record of impossible values.

    Raises:
        RecordError: there is such a file, and no list to receive it.
    """
    found: dict[tuple, Record] = {}
    for path in sorted(layout.file(benchmark.name, layout.RECORDS, results).rglob("*.json")):
        try:
            record = _read(path, benchmark, results)
        except RecordError as error:
            if problems is None:
                raise
            problems.append(str(error))
            continue
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


def _read(path: Path, benchmark: Benchmark, results: Path) -> Record:
    record = Record.read(path)
    pattern = {"reconstruction": layout.RECONSTRUCTION_RECORD, "generation": layout.GENERATION_RECORD}
    try:
        place = layout.file(benchmark.name, pattern.get(record.kind, layout.EFFICIENCY_RECORD), results, **record.cell)
    except (KeyError, TypeError):
        place = None
    if place != path:
        raise RecordError(f"{path} is the record of another cell, {record.cell}; remove it and run again")
    for name, value in record.values.items():
        low, high = bounds(name)
        if not low - TOLERANCE <= value.value <= high + TOLERANCE:
            raise RecordError(f"{path}: {name} is {value.value:g}, which no {name} can be; remove it and run again")
    return record


def read_per_image(
    benchmark: Benchmark, results: Path, measured: list[Result], problems: list[str] | None = None
) -> dict[tuple, Any]:
    """Read the per-image values of the reconstructions, by cell, where they are there; see ``read_results``."""
    import pyarrow

    from evaluation.metrics.paired import read_rows

    found = {}
    for result in (each for each in measured if each.kind == "reconstruction"):
        path = layout.file(benchmark.name, layout.PER_IMAGE, results, **result.record.cell)
        if path.is_file():
            try:
                found[result.cell.identity] = read_rows(path)
            except (pyarrow.ArrowException, OSError) as error:
                problem = f"{path} cannot be read ({error}); remove it and the record of its cell, and run again"
                if problems is None:
                    raise RecordError(problem) from error
                problems.append(problem)
    return found
