# SPDX-License-Identifier: Apache-2.0
"""``dcae claims``: which of the paper's claims the records of a benchmark hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark, Record
from evaluation.tables.cells import planned_cells
from evaluation.tables.rows import Result
from workflow import layout
from workflow.commands import options
from workflow.commands.tables import read_per_image, read_results


def claims(
    benchmark_file: options.BenchmarkFile,
    results: options.ResultsFolder = Path(layout.RESULTS),
    suite: Annotated[
        list[Path], typer.Option(help="folder of dcae profile-suite, for claims on the speed of autoencoders")
    ] = [],  # noqa: B006
) -> None:
    """Test the paper's claims by the records that are there: held, not held, undecided or not tested. Trains nothing.

    Prints each claim of config/claims.yaml with every comparison that the benchmark has the rows for: the measured
    effect, its 95 % interval, the number of images and of seeds, and the paper's numbers.
    """
    from evaluation.claims.claims_file import read_claims
    from evaluation.claims.table import as_text
    from evaluation.claims.verdicts import judge_claims
    from evaluation.published import read_published

    benchmark = Benchmark.load(benchmark_file)
    measured = read_results(benchmark, results)
    planned = [cell for _, cell in planned_cells(benchmark)]
    per_image = read_per_image(benchmark, results, measured)
    measured += [result for folder in suite for result in read_suite(folder)]
    print(as_text(judge_claims(read_claims(), measured, read_published(), planned, per_image)))


def read_suite(folder: Path) -> list[Result]:
    """Read the records of a suite."""
    from evaluation.efficiency.suite import read_cell

    records = map(Record.read, sorted((folder / layout.RECORDS).rglob("*.json")))
    return [Result(read_cell(record), record) for record in records]
