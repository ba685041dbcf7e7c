# SPDX-License-Identifier: Apache-2.0
"""``dcae page``: a benchmark's results as one HTML file."""

from __future__ import annotations

from pathlib import Path

from dcae.benchmark import Benchmark
from dcae.benchmark.record import write_atomically
from evaluation.tables.rows import Result
from workflow import layout
from workflow.commands import options
from workflow.commands.tables import finish, read_per_image, read_results


def page(benchmark_file: options.BenchmarkFile, results: options.ResultsFolder = Path(layout.RESULTS)) -> None:
    """Write the results that are there as one page for a browser, which needs no network. Trains nothing.

    Files that are damaged or impossible are named and left out; the exit status is then 1.
    """
    from evaluation.page.page import build_page

    benchmark = Benchmark.load(benchmark_file)

    def file(pattern: str, **names: str | int) -> Path:
        return layout.file(benchmark.name, pattern, results, **names)

    def grid_of(result: Result) -> Path:
        grid = {"reconstruction": layout.RECONSTRUCTION_SAMPLES, "generation": layout.GENERATION_SAMPLES}[result.kind]
        return file(grid, **result.record.cell)

    finals = filter(None, map(benchmark.final_training, benchmark.all_autoencoders))
    logs = {
        f"{each.autoencoder}: {each.phase}": file(layout.AUTOENCODER, autoencoder=each.autoencoder, phase=each.phase)
        for final in finals
        for each in final.chain
    }
    for cell in benchmark.cells.generation:
        name = f"{cell.diffusion} p{cell.patch_size} on {cell.autoencoder}, {cell.dataset} {cell.resolution} px"
        logs[name] = file(layout.DENOISER, **vars(cell))
    logs = {name: folder / layout.LOG for name, folder in logs.items()}
    problems: list[str] = []
    measured = read_results(benchmark, results, problems)
    per_image = read_per_image(benchmark, results, measured, problems)
    path = file(layout.PAGE)
    write_atomically(path, build_page(benchmark, measured, per_image, grid_of, logs, problems))
    print(f"{len(measured)} records: {path}; open it in a browser")
    finish(problems)
