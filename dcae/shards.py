# SPDX-License-Identifier: Apache-2.0
"""A folder of numbered safetensors shards, filled by many processes without locks.

A *plan*, as JSON, describes the content of the folder and everything that decides it. Every shard has the plan's digest
in its name and is renamed into place, so an existing shard is whole and of this plan. Process r of n makes the shards
r, r + n, …; a process that finds all shards after its own writes ``index.json``: the plan, a summary, and the shards'
sha256 and sizes. A folder with an index is complete.
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
    """Latents, captions or samples are incomplete, damaged, or of another identity."""


def latent_names(posterior: str) -> tuple[str, ...]:
    """Return the names of a shard's tensors that hold latents."""
    return ("mean", "std") if posterior == "moments" else ("latents",)


def shard_lengths(count: int, shard_size: int) -> list[int]:
    """Return the number of images in each shard: ``shard_size`` in all but the last."""
    return [min(shard_size, count - start) for start in range(0, count, shard_size)]


def read_index(folder: Path, source: str) -> dict[str, Any]:
    """Return the content of ``index.json``; raises ``CacheError`` if the folder is incomplete."""
    if not (folder / INDEX).is_file():
        raise CacheError(f"{folder / INDEX}: no such file; encode {source} (again) to complete it")
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def check_identity(folder: Path, content: str, actual: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Raise ``CacheError`` naming every field in which two identities differ.

    A field that is expected to be ``None`` is unknown to the reader and not compared.
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
        raise CacheError(f"{folder}: these {content} have another identity: {'; '.join(differences)}; make them again")


def open_shards(
    folder: Path, index: dict[str, Any], names: Sequence[str], shapes: Sequence[Sequence[int]] | None = None
) -> list[Shard]:
    """Open every shard of an index; see ``open_shard``."""
    lengths = shard_lengths(index["count"], index["shard_size"])
    return [open_shard(folder / name, n, names, shapes) for name, n in zip(index["shards"], lengths, strict=True)]


def open_shard(path: Path, count: int, names: Sequence[str], shapes: Sequence[Sequence[int]] | None = None) -> Shard:
    """Return memory-mapped tensors [count, ...] of the given names.

    Raises:
        CacheError: the file is missing or cut short, or its tensors differ.
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
    """Return the file names of a plan's shards."""
    shards = len(shard_lengths(plan["count"], plan["shard_size"]))
    return [f"shard-{number:05d}-{_digest(plan)}.safetensors" for number in range(shards)]


def _existing(folder: Path) -> set[str]:
    """List the shards in a folder; on a network file system the state of a single file may be stale."""
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
    """Make this process's missing shards, and the index if all shards exist then.

    Shards of another plan are replaced.

    Args:
        folder: created if missing.
        plan: with ``count`` and ``shard_size``; any JSON.
        make: returns the tensors of ``length`` images from index ``start`` on, given (start, length).
        summarise: returns additional fields of the index, given all shards.
        process, processes: number of this process, and number of processes.
        progress: called with the number of this process's finished images, and of all its images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = json.loads(json.dumps(plan))
    names, lengths, existing = _names(plan), shard_lengths(plan["count"], plan["shard_size"]), _existing(folder)
    own = range(process, len(names), processes)
    missing = [number for number in own if names[number] not in existing]
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
    """Write the index if all shards exist; two processes that end at the same time write the same."""
    names, lengths, existing = _names(plan), shard_lengths(plan["count"], plan["shard_size"]), _existing(folder)
    written = json.loads((folder / INDEX).read_text(encoding="utf-8"))["shards"] if (folder / INDEX).is_file() else {}
    if list(written) == names or not existing.issuperset(names):
        return
    with safe_open(folder / names[0], "pt") as first:
        tensors = sorted(first.keys())
    shapes = [tensor.shape[1:] for tensor in open_shard(folder / names[0], lengths[0], tensors).values()]
    shards = [open_shard(folder / name, length, tensors, shapes) for name, length in zip(names, lengths, strict=True)]
    hashes = {name: sha256(folder / name) for name in names}
    sizes = {name: (folder / name).stat().st_size for name in names}
    index = {**plan, **summarise(shards), "shards": hashes, "sizes": sizes}
    write_atomically(folder / INDEX, json.dumps(index, indent=1) + "\n")
    for stale in [*(folder / name for name in existing.difference(names)), *folder.glob(f".{ANY_SHARD}.*")]:
        stale.unlink(missing_ok=True)


def check_files(folder: Path, index: dict[str, Any]) -> None:
    """Check the shards' sizes and time stamps against the index, and the content of those changed after it was written.

    Reads no shard of an unchanged folder. An index without sizes is checked by ``verify``.

    Raises:
        CacheError: a shard differs from the index.
    """
    sizes = index.get("sizes")
    if sizes is None:
        return verify(folder, index)
    written = (folder / INDEX).stat().st_mtime_ns
    for name, expected in index["shards"].items():
        state = (folder / name).stat()
        if state.st_size != sizes[name] or (state.st_mtime_ns >= written and sha256(folder / name) != expected):
            raise _damaged(folder / name)


def verify(folder: Path, index: dict[str, Any]) -> None:
    """Read every shard and raise ``CacheError`` if its sha256 differs from the index."""
    for name, expected in index["shards"].items():
        if sha256(folder / name) != expected:
            raise _damaged(folder / name)


def _damaged(path: Path) -> CacheError:
    return CacheError(f"{path}: damaged (sha256 differs); delete it and make it again")
