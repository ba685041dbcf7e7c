# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle, by their paths in it."""

from __future__ import annotations

from pathlib import Path

from dcae.benchmark import Benchmark
from dcae.benchmark.config import REPOSITORY_CONFIG, benchmark_files
from workflow import layout

CONFIG = "config"
PUBLISHED = f"{CONFIG}/published"
WORKFLOW = "Snakefile"
OF_THE_CHECKOUT = (WORKFLOW, "workflow/rules/*.smk", "requirements.lock", "LICENSE")
OF_EVERY_BENCHMARK = ("published/*.csv", "claims.yaml", "weights.yaml")  # below config/
RESULTS = (
    f"{layout.RECORDS}/**/*.json",
    "per_image/**/*.parquet",
    "samples/**/*.png",
    f"{layout.TABLES}/*",
    f"{layout.FIGURES}/*",
    layout.PAGE,
    "logs/**/*.log",
    f"autoencoders/**/{layout.LOG}",
    f"diffusion/**/{layout.LOG}",
)
STATE = ".state"  # folders of checkpoints, in the layout of results
TRAINED = ("autoencoders", "diffusion")
FILES_OF_WEIGHTS = (layout.CONFIG, layout.INDEX, layout.AUTOENCODER_WEIGHTS, layout.DENOISER_WEIGHTS)


class BundleError(ValueError):
    """A bundle cannot be made, or is not as it was made."""


def contents(benchmark: Benchmark, results: Path, weights: bool = False) -> dict[str, Path]:
    """Return every file of a benchmark's bundle by its path there, in the order of these paths.

    Args:
        results: folder of all results.
        weights: whether the weights that were trained are among them.

    Raises:
        BundleError: the benchmark has no records.
    """
    folder = layout.file(benchmark.name, "", results)
    if not any((folder / layout.RECORDS).rglob("*.json")):
        raise BundleError(f"nothing has run: no records in {folder / layout.RECORDS}; dcae run {benchmark.name} first")
    patterns = [*RESULTS, *(f"{kind}/**/{name}" for kind in TRAINED for name in FILES_OF_WEIGHTS if weights)]
    found = {f"{layout.RESULTS}/{benchmark.name}/{name}": path for name, path in _found(folder, patterns).items()}
    checkout = _found(
        REPOSITORY_CONFIG.parent, [*OF_THE_CHECKOUT, *(f"{CONFIG}/{each}" for each in OF_EVERY_BENCHMARK)]
    )
    return dict(sorted((checkout | _configuration(benchmark) | found).items()))


def _found(folder: Path, patterns: list[str]) -> dict[str, Path]:
    """Return the files of a folder that match; not checkpoints, nor what a job has begun and not finished."""
    paths = {path.relative_to(folder): path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    unfinished = {each for each in paths for part in each.parts if part.startswith(".") or part.endswith(STATE)}
    return {each.as_posix(): path for each, path in paths.items() if each not in unfinished}


def _configuration(benchmark: Benchmark) -> dict[str, Path]:
    """Return the benchmark's file, the entries that it uses, and all that these extend."""
    benchmark.entries_used()  # reads them
    entries = {f"{CONFIG}/{kind}/{path.name}": path for kind, path in benchmark.config.files_read()}
    return {f"{CONFIG}/{path.name}": path for path in benchmark_files(benchmark.path)} | entries
