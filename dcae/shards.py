# SPDX-License-Identifier: Apache-2.0
"""Numbered shards of safetensors in a folder, which many processes fill without locks.

A *plan*, as JSON, says what the folder is to hold and what makes it. Every shard has the plan's digest in its name and
appears by a rename, so a shard that is there is whole and of this plan. Process r of n makes the shards r, r + n, …;
whoever finds all of them there once its own are done writes ``index.json``: the plan, what is known of the shards
together, and their sha256. A folder that has it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dcae.benchmark.record import write_atomically
from dcae.files import replacing, sha256

INDEX = "index.json"
ANY_SHARD = "shard-*.safetensors"

Shard = dict[str, Tensor]


class CacheError(ValueError):
    """Latents, captions or samples that are incomplete, damaged, or made by something else."""


def latent_names(posterior: str) -> tuple[str, ...]:
    """The tensors of a shard that hold latents."""
    return ("mean", "std") if posterior == "moments" else ("latents",)


def shard_lengths(count: int, shard_size: int) -> list[int]:
    """How many images each shard holds: all but the last one ``shard_size``."""
    return [min(shard_size, count - start) for start in range(0, count, shard_size)]


def read_index(folder: Path, what: str) -> dict[str, Any]:
    """Content of ``index.json``; raises ``CacheError`` if the folder is not complete."""
    if not (folder / INDEX).is_file():
        raise CacheError(f"{folder / INDEX}: no such file; encode {what} (again) to complete it")
    return json.loads((folder / INDEX).read_text())


def check_identity(folder: Path, what: str, actual: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Raise ``CacheError`` that names every field in which two identities differ.

    A field that is expected to be ``None`` is not known to who reads, and not compared.
    """
    if expected is None:
        return
    expected = json.loads(json.dumps(expected))
    differences = [
        f"{field} {actual.get(field)!r}, expected {expected.get(field)!r}"
        for field in sorted(actual | expected)
        if actual.get(field) != expected.get(field) and expected.get(field, "") is not None
    ]
    if differences:
        raise CacheError(
            f"{folder}: these {what} were made by something else: {'; '.join(differences)}; make them again"
        )


def open_shards(
    folder: Path, index: dict[str, Any], names: Sequence[str], shapes: Sequence[Sequence[int]] | None = None
) -> list[Shard]:
    """Every shard of an index, as ``open_shard``."""
    lengths = shard_lengths(index["count"], index["shard_size"])
    return [open_shard(folder / name, n, names, shapes) for name, n in zip(index["shards"], lengths, strict=True)]


def open_shard(path: Path, count: int, names: Sequence[str], shapes: Sequence[Sequence[int]] | None = None) -> Shard:
    """Tensors [count, ...] of the given names, mapped from the file and not read yet.

    Raises:
        CacheError: the file is missing, cut short, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            shard = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CacheError(f"{path}: no whole shard ({error}); delete it and make it again") from error
    actual = [tuple(tensor.shape) for tensor in shard.values()]
    expected = [(count, *shape) for shape in shapes or [each[1:] for each in actual]]
    if actual != expected:
        held, wanted = (", ".join(map(_described, names, each)) for each in (actual, expected))
        raise CacheError(f"{path}: holds {held}, expected {wanted}; delete it and make it again")
    return shard


def _described(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} {list(shape)}"


def _digest(plan: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]


def _names(plan: dict[str, Any]) -> list[str]:
    """The files of a plan's shards."""
    shards = len(shard_lengths(plan["count"], plan["shard_size"]))
    return [f"shard-{number:05d}-{_digest(plan)}.safetensors" for number in range(shards)]


def _there(folder: Path) -> set[str]:
    """The shards in a folder. Listed, since on a network file system a look at a single file may not be fresh."""
    return {path.name for path in folder.glob(ANY_SHARD)}


def _write_shard(path: Path, content: Shard) -> None:
    with replacing(path) as temporary:
        save_file(content, temporary)


def write_shards(
    folder: Path,
    plan: dict[str, Any],
    make: Callable[[int, int], Shard],
    summarise: Callable[[list[Shard]], dict[str, Any]],
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make this process's shards that are missing, and the index if all of them are there then.

    What the folder holds of another plan is replaced.

    Args:
        folder: made if need be.
        plan: with ``count`` and ``shard_size``; anything JSON can hold.
        make: tensors of the images from a first one on, so many.
        summarise: what the index says of all shards.
        process, processes: this one's number, and how many there are.
        progress: called with the number of images that this process has done, and of all that it is to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = json.loads(json.dumps(plan))
    names, lengths, there = _names(plan), shard_lengths(plan["count"], plan["shard_size"]), _there(folder)
    own = range(process, len(names), processes)
    missing = [number for number in own if names[number] not in there]
    if missing:
        (folder / INDEX).unlink(missing_ok=True)
    done, total = sum(lengths[number] for number in own if number not in missing), sum(lengths[n] for n in own)
    for number in missing:
        _write_shard(folder / names[number], make(number * plan["shard_size"], lengths[number]))
        done += lengths[number]
        if progress:
            progress(done, total)
    if own:
        _write_index(folder, plan, summarise)


def _write_index(folder: Path, plan: dict[str, Any], summarise: Callable[[list[Shard]], dict[str, Any]]) -> None:
    """The last process to end finds all shards; two that end at the same time write the same."""
    names, lengths, there = _names(plan), shard_lengths(plan["count"], plan["shard_size"]), _there(folder)
    written = json.loads((folder / INDEX).read_text())["shards"] if (folder / INDEX).is_file() else {}
    if list(written) == names or not there.issuperset(names):
        return
    with safe_open(folder / names[0], "pt") as first:
        tensors = sorted(first.keys())
    shapes = [tensor.shape[1:] for tensor in open_shard(folder / names[0], lengths[0], tensors).values()]
    shards = [open_shard(folder / name, length, tensors, shapes) for name, length in zip(names, lengths, strict=True)]
    index = {**plan, **summarise(shards), "shards": {name: sha256(folder / name) for name in names}}
    write_atomically(folder / INDEX, json.dumps(index, indent=1) + "\n")
    for stale in [*(folder / name for name in there.difference(names)), *folder.glob(f".{ANY_SHARD}.*")]:
        stale.unlink(missing_ok=True)


def verify(folder: Path, index: dict[str, Any]) -> None:
    """Read every shard and raise ``CacheError`` for one whose sha256 is not that of the index."""
    for name, expected in index["shards"].items():
        if sha256(folder / name) != expected:
            raise CacheError(f"{folder / name}: damaged (sha256 differs); delete it and make it again")
