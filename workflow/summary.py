# SPDX-License-Identifier: Apache-2.0
"""What is missing of a benchmark after a run that failed: each first missing step, the reason, and its log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell
from workflow import layout

Step = tuple[str, str, str, dict]  # what it makes, its result, its log, and the names in both


def failures(benchmark: Benchmark, results: Path | str = layout.RESULTS) -> list[str]:
    """Return lines that name the cells without a record by the step that is missing, with the end of its log.

    Where there is the record, nothing before it is missed: results may have come without weights.
    """

    def is_missing(step: Step) -> bool:
        _, result, _, names = step
        return not layout.file(benchmark.name, result, results, **names).is_file()

    cells: dict[tuple[str, Path], list[str]] = {}
    for cell in (*benchmark.cells.reconstruction, *benchmark.cells.generation):
        steps = next((steps for steps in _ways_to_records(benchmark, cell) if is_missing(steps[-1])), None)
        if steps:
            what, _, log, names = next(filter(is_missing, steps))
            place = layout.file(benchmark.name, log, results, **names)
            cells.setdefault((what, place), []).append(" ".join(map(str, vars(cell).values())))
    if not cells:
        return []
    lines = [f"{sum(map(len, cells.values()))} cells have no record:"]
    for (what, log), affected in cells.items():
        lines += [f"  {what}: {last_line(log)}"]
        lines += [f"    log: {log}"] if log.is_file() else []
        lines += [f"    {each}" for each in affected]
    return lines


def last_line(log: Path) -> str:
    """Return the last line of a log with a text."""
    if not log.is_file():
        return "not started"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def _ways_to_records(benchmark: Benchmark, cell: ReconstructionCell | GenerationCell) -> Iterator[list[Step]]:
    """Yield the steps to each record of a cell, the record last."""
    resolved, names = benchmark.resolve(cell), vars(cell)
    steps = list(_trainings(benchmark, cell.autoencoder))
    if isinstance(cell, ReconstructionCell):
        record = ("reconstruction", layout.RECONSTRUCTION_RECORD, layout.RECONSTRUCTION_LOG, names)
        yield [*steps, _reference("reconstruction", cell.dataset, cell.resolution), record]
        return
    if not resolved.is_released:
        if resolved.recipe.latents == "cached":
            steps.append(("latents", f"{layout.LATENTS}/{layout.INDEX}", layout.LATENTS_LOG, names))
        weights = f"{layout.DENOISER}/{layout.DENOISER_WEIGHTS}"
        steps.append(("diffusion model", weights, layout.DENOISER_ATTEMPTS, names))
    record = ("generation", layout.GENERATION_RECORD, layout.GENERATION_LOG, names)
    yield [*steps, _reference("generation", resolved.evaluated_on.name, cell.resolution), record]
    yield [("efficiency", layout.EFFICIENCY_RECORD, layout.EFFICIENCY_LOG, names)]


def _trainings(benchmark: Benchmark, autoencoder: str) -> Iterable[Step]:
    final = benchmark.final_training(autoencoder)
    for each in final.chain if final else ():
        weights = f"{layout.AUTOENCODER}/{layout.AUTOENCODER_WEIGHTS}"
        names = {"autoencoder": each.autoencoder, "phase": each.phase}
        yield f"training of {each.autoencoder}, {each.phase}", weights, layout.TRAINING_ATTEMPTS, names


def _reference(purpose: str, dataset: str, resolution: int) -> Step:
    names = {"purpose": purpose, "dataset": dataset, "resolution": resolution}
    return f"reference features of {dataset}", layout.REFERENCE, layout.REFERENCE_LOG, names
