# SPDX-License-Identifier: Apache-2.0
"""A benchmark with additional autoencoders, as ``dcae run BENCHMARK --with ENTRY`` runs it.

Its file and the entries lie below ``results/<benchmark>/with``, and it has the benchmark's name, so that everything
that is there already counts. The rules name the benchmark's own file, as before; an environment variable puts the
other one in its place, since Snakemake would take another name in a command for a change that makes all results stale.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from dcae.benchmark import Benchmark, ConfigError, read_entry, write_atomically
from dcae.benchmark.config import REPOSITORY_CONFIG, read_benchmark
from dcae.benchmark.entries import ADAPTERS
from workflow import layout

EXTENDED = "DCAE_EXTENDED_BENCHMARK"
"""Environment variable: path of the extended file, for the benchmark of that name."""


def in_force(path: Path | str) -> Path:
    """Return the extended file of a benchmark's file if this run has one, else the file itself."""
    extended = os.environ.get(EXTENDED)
    return Path(extended) if extended and Path(extended).stem == Path(path).stem else Path(path)


def extend(path: Path, entries: Sequence[Path]) -> Path:
    """Write a benchmark's file with additional autoencoders, and return its path.

    They get the diffusion models of all blocks that name no autoencoders, and of those with ``new_autoencoders: true``.

    Raises:
        ConfigError: an entry is wrong, or has the name of one that the benchmark measures already.
    """
    content, folder = read_benchmark(path), layout.file(path.stem, layout.EXTENDED)
    shutil.rmtree(folder, ignore_errors=True)
    beside = path.resolve().parent
    for kind in ADAPTERS if beside != REPOSITORY_CONFIG else ():
        if (beside / kind).is_dir():
            shutil.copytree(beside / kind, folder / kind)
    for file in entries:
        entry = read_entry("autoencoders", file)
        if entry.name in content["autoencoders"]:
            raise ConfigError(f"--with {file}: {path} measures an autoencoder named {entry.name} already")
        content["autoencoders"] = [*content["autoencoders"], entry.name]
        for plan in content.get("generation", []):
            takes_it = plan.get("new_autoencoders") and entry.spatial_compression in plan["patch_sizes"]
            if takes_it and plan.get("autoencoders") is not None:
                plan["autoencoders"] = [*plan["autoencoders"], entry.name]
        if file.resolve().parent not in (beside / "autoencoders", REPOSITORY_CONFIG / "autoencoders"):
            write_atomically(folder / "autoencoders" / f"{entry.name}.yaml", file.read_text(encoding="utf-8"))
    target = folder / path.name
    write_atomically(target, yaml.safe_dump(content, sort_keys=False))
    Benchmark.load(target)
    return target
