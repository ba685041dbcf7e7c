# SPDX-License-Identifier: Apache-2.0
"""``dcae bundle``: a benchmark's results as one RO-Crate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark
from workflow import layout
from workflow.commands import options
from workflow.commands.tables import read_results, stale


def bundle(
    benchmark_file: options.BenchmarkFile,
    output: Annotated[
        Path | None, typer.Option(help="zip file, or folder to create; default: BENCHMARK.crate.zip in the results")
    ] = None,
    results: options.ResultsFolder = Path(layout.RESULTS),
    weights: Annotated[bool, typer.Option("--weights", help="with the weights that were trained")] = False,
) -> None:
    """Write records, per-image values, tables, figures, page, logs and configuration as an RO-Crate.

    It says of each record how, when and on what it was made, and holds the sha256 of each file. dcae diff and dcae
    tables open it.
    """
    from workflow.bundle.writing import write_bundle

    benchmark = Benchmark.load(benchmark_file)
    for line in stale(benchmark, read_results(benchmark, results)):
        print(line, file=sys.stderr)
    output = output or results / f"{benchmark.name}.crate.zip"
    written = write_bundle(benchmark, results, output, weights)
    print(f"{output}: {len(written)} files, {sum(each.size for each in written.values()) / 1e6:,.1f} MB")
