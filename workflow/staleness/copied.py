# SPDX-License-Identifier: Apache-2.0
"""Results that were copied without their time stamps are no older than what they were made from.

Snakemake compares times. Where an output is older than an input, the sha256 in the output's own record tells whether it
was made from that input; if so, it gets the input's time. Diffusion models that are conditioned on captions, tables,
figures and the page have no such record: the first go on from the state of their training, the others take seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Training
from dcae.benchmark.entries import digest
from dcae.files import content_hashes
from workflow import layout

AUTOENCODER = (layout.AUTOENCODER_WEIGHTS, layout.CONFIG)
DENOISER = (layout.DENOISER_WEIGHTS, layout.CONFIG)


@dataclass(frozen=True)
class Made:
    """Outputs of a job, its inputs, and whether the outputs' record says that they were made from these inputs."""

    outputs: list[Path]
    inputs: list[Path]
    is_recorded: Callable[[], bool]


def restore_order(benchmark: Benchmark) -> None:
    """Give outputs that are older than their inputs, and were made from them, the time of the newest input."""
    for made in _jobs(benchmark):
        if not made.inputs or not all(path.is_file() for path in (*made.outputs, *made.inputs)):
            continue
        newest = max(path.stat().st_mtime_ns for path in made.inputs)
        older = [path for path in made.outputs if path.stat().st_mtime_ns < newest]
        if older and _or_not(made.is_recorded):
            for path in older:
                with suppress(PermissionError):  # results that may only be read
                    os.utime(path, ns=(newest, newest))


def _or_not(is_recorded: Callable[[], bool]) -> bool:
    try:
        return is_recorded()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a damaged record vouches for nothing
        return False


def _jobs(benchmark: Benchmark) -> Iterator[Made]:
    """Yield the jobs whose outputs name their inputs, each after those that it depends on."""

    def file(pattern: str, **names: str | int) -> Path:
        return layout.file(benchmark.name, pattern, **names)

    def trained(training: Training | None) -> list[Path]:
        if training is None:
            return []
        folder = file(layout.AUTOENCODER, autoencoder=training.autoencoder, phase=training.phase)
        return [folder / name for name in AUTOENCODER]

    for training in benchmark.trainings:
        names = {"autoencoder": training.autoencoder, "phase": training.phase}
        outputs, start = trained(training), trained(training.start)
        state = file(layout.AUTOENCODER_STATE, **names)
        yield Made(outputs, start, _is_training(state, outputs, "start", lambda start=start: " ".join(_hashes(start))))
    for cell in benchmark.cells.generation:
        weights = trained(benchmark.final_training(cell.autoencoder))
        index = file(f"{layout.LATENTS}/{layout.INDEX}", **vars(cell))
        yield Made([index], weights, lambda index=index, weights=weights: _weights_of(index) == _hashes(weights)[0])
        outputs = [file(f"{layout.DENOISER}/{name}", **vars(cell)) for name in DENOISER]
        state = file(layout.DENOISER_STATE, **vars(cell))
        is_made = _is_training(state, outputs, "data", lambda index=index: _digest_of_latents(index))
        yield Made(outputs, [*weights, index], is_made)
        yield _recorded(
            [file(each, **vars(cell)) for each in (layout.GENERATION_RECORD, layout.GENERATION_SAMPLES)],
            [*outputs[:1], *weights, _reference(benchmark, cell)],
        )
    for cell in benchmark.cells.reconstruction:
        patterns = (layout.RECONSTRUCTION_RECORD, layout.RECONSTRUCTION_SAMPLES, layout.PER_IMAGE)
        weights = trained(benchmark.final_training(cell.autoencoder))
        yield _recorded([file(each, **vars(cell)) for each in patterns], [*weights, _reference(benchmark, cell)])


def _reference(benchmark: Benchmark, cell: ReconstructionCell | GenerationCell) -> Path:
    generation = isinstance(cell, GenerationCell)
    dataset = benchmark.evaluation_dataset(cell) if generation else cell.dataset
    names = {"purpose": "generation" if generation else "reconstruction", "resolution": cell.resolution}
    return layout.file(benchmark.name, layout.REFERENCE, dataset=dataset, **names)


def _hashes(paths: list[Path]) -> list[str]:
    return list(content_hashes(paths).values())


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _recorded(outputs: list[Path], inputs: list[Path]) -> Made:
    """Return a measurement, whose record, the first output, names its inputs by path and sha256."""

    def is_recorded() -> bool:
        recorded = _read(outputs[0])["provenance"]["inputs"]
        return all(recorded[path] == content for path, content in content_hashes(inputs).items())

    return Made(outputs, inputs, is_recorded)


def _is_training(state: Path, outputs: list[Path], field: str, expected: Callable[[], str]) -> Callable[[], bool]:
    """Return whether a completed training wrote these outputs, and has this field in its identity."""

    def is_recorded() -> bool:
        written = dict(zip((path.name for path in outputs), _hashes(outputs), strict=True))
        completed = [_read(path) for path in state.glob("*/completed.json")]
        ours = [each for each in completed if written.items() <= each["files"].items()]
        return any(each["identity"][field] == expected() for each in ours)

    return is_recorded


def _weights_of(index: Path) -> str:
    return _read(index)["identity"]["weights"]


def _digest_of_latents(index: Path) -> str:
    """Return the digest by which a training knows its latents, as ``dcae/training/denoiser.py`` computes it."""
    content = _read(index)
    fields = {name: content[name] for name in ("shape", "classes", "latent_scale", "latent_shift")}
    return digest({**fields, "shards": list(content["shards"].values())})
