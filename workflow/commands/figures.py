# SPDX-License-Identifier: Apache-2.0
"""``dcae figures``: every figure of a benchmark, from records, published numbers and sample images."""

from __future__ import annotations

from pathlib import Path

from dcae.benchmark import Benchmark
from evaluation.tables.rows import Result
from workflow import layout
from workflow.commands import options
from workflow.commands.tables import finish, read_results


def figures(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path(layout.RESULTS)) -> None:
    """Draw the figures from the records and sample images that are there."""
    from evaluation.figures.registry import draw_figures

    benchmark = Benchmark.load(benchmark_file)

    def grid_of(result: Result) -> Path:
        grid = {"reconstruction": layout.RECONSTRUCTION_SAMPLES, "generation": layout.GENERATION_SAMPLES}[result.kind]
        return layout.file(benchmark.name, grid, results, **result.record.cell)

    folder = layout.file(benchmark.name, layout.FIGURES, results)
    problems: list[str] = []
    written = draw_figures(read_results(benchmark, results, problems), grid_of, folder)
    print(f"figures: {', '.join(str(path) for path in written)}")
    finish(problems)
