# SPDX-License-Identifier: Apache-2.0
"""``dcae pin``: the current commit and sha256 of released weights, written into their entries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark, Config, ConfigError
from dcae.benchmark.config import read_yaml

KINDS = ("autoencoders", "diffusion")


def _files(name: str) -> list[tuple[str, Path]]:
    """Return kind and file of ``kind/name``, of an entry's file, or of every entry of a benchmark's file."""
    path, config = Path(name), Config()
    if path.suffix not in (".yaml", ".yml"):
        kind, _, short = name.rpartition("/")
        if kind not in KINDS:
            raise ConfigError(f"{name!r}: expected {' or '.join(f'{each}/NAME' for each in KINDS)}, or a file")
        return [(kind, config.file(kind, short))]
    if path.resolve().parent.name in KINDS:
        return [(path.resolve().parent.name, path)]
    if "autoencoders" not in read_yaml(path):
        raise ConfigError(f"{path}: is neither a benchmark nor in a folder named {' or '.join(KINDS)}")
    benchmark = Benchmark.load(path)
    return [
        (kind, benchmark.config.file(kind, entry.name)) for kind, entry in benchmark.entries_used() if kind in KINDS
    ]


def pin(
    names: Annotated[
        list[str],
        typer.Argument(metavar="ENTRY...", help="autoencoders/NAME, a file, or a benchmark: all of its entries"),
    ],
) -> None:
    """Write the hub's current commit and the file's sha256 into entries with released weights; needs a network.

    Later runs use these weights only and refuse a file of another content. Pin before measuring: a changed entry makes
    its cells stale.
    """
    from huggingface_hub import HfApi

    from dcae.weights.pinning import PinError, pin_entry

    api = HfApi()
    failed = 0
    for kind, path in dict.fromkeys(each for name in names for each in _files(name)):
        try:
            pins = pin_entry(kind, path, api)
        except PinError as error:
            failed += 1
            print(f"left out: {error}", flush=True)
            continue
        for each in pins:
            content = f"sha256 {each.sha256}" if each.sha256 else "no sha256 (several files)"
            print(f"{path}: {each.id} at {each.revision}, {content}", flush=True)
    if failed:
        raise PinError(f"{failed} entries are not pinned")
