# SPDX-License-Identifier: Apache-2.0
"""A folder of numbered safetensors shards, filled by many processes without locks.

A *plan*, as JSON, describes the content of the folder and everything that decides it. Every shard has the plan's digest
in its name and is renamed into place, so an existing shard is whole and of this plan. Process r of n makes the shards
r, r + n, …; a process that finds all shards after its own writes ``index.json``: the plan, a summary, and the shards'
sha256 and sizes. A folder with an index is complete.

What is damaged or missing is made anew, shard by shard: the writer compares its shards with the index; a reader that
finds damage sets the shard and the index aside, so that the workflow runs the writer again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dcae.benchmark.record import write_atomically
from dcae.files import replacing, set_aside, sha256

INDEX = "index.json"
STEPS = "steps"  # key of a plan: k of the tensors that have a row for every k-th image of a shard alone
NO_STEPS: Mapping[str, int] = {}
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
    """Return the content of ``index.json``; raises ``CacheError`` if the folder is incomplete or the index damaged."""
    if not (folder / INDEX).is_file():
        raise CacheError(f"{folder / INDEX}: no such file; encode {source} (again) to complete it")
    index = _whole_index(folder)
    if index is None:
        raise CacheError(f"{folder / INDEX}: damaged; {set_aside(folder / INDEX)}")
    return index


def _whole_index(folder: Path) -> dict[str, Any] | None:
    """Return the content of the index; ``None`` if it is missing, cut, or not as it was written."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
        written = index.pop("sha256", None)
        return index if written in (None, _sha256_of(index)) else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _sha256_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
    folder: Path,
    index: dict[str, Any],
    names: Sequence[str],
    shapes: Sequence[Sequence[int]] | None = None,
) -> list[Shard]:
    """Open every shard of an index; see ``open_shard``."""
    lengths, steps = shard_lengths(index["count"], index["shard_size"]), index.get(STEPS, {})
    return [
        open_shard(folder / name, n, names, shapes, steps) for name, n in zip(index["shards"], lengths, strict=True)
    ]


def open_shard(
    path: Path,
    count: int,
    names: Sequence[str],
    shapes: Sequence[Sequence[int]] | None = None,
    steps: Mapping[str, int] = NO_STEPS,
) -> Shard:
    """Return memory-mapped tensors [count, ...] of the given names; with a step k, of every k-th row from the first on.

    Raises:
        CacheError: the file is missing or cut short, or its tensors differ; it is set aside with the index.
    """
    try:
        with safe_open(path, "pt") as file:
            shard = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, f"no whole shard ({error})") from error
    actual = [tuple(tensor.shape) for tensor in shard.values()]
    rows = [-(-count // steps.get(name, 1)) for name in names]
    expected = [(n, *shape) for n, shape in zip(rows, shapes or [each[1:] for each in actual], strict=True)]
    if actual != expected:
        held, wanted = (", ".join(map(_described, names, each)) for each in (actual, expected))
        raise _damaged(path, f"holds {held}, expected {wanted}")
    return shard


def _described(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} {list(shape)}"


def _digest(plan: dict[str, Any]) -> str:
    return _sha256_of(plan)[:12]


def _names(plan: dict[str, Any]) -> list[str]:
    """Return the file names of a plan's shards."""
    shards = len(shard_lengths(plan["count"], plan["shard_size"]))
    return [f"shard-{number:05d}-{_digest(plan)}.safetensors" for number in range(shards)]


def _existing(folder: Path) -> set[str]:
    """List the shards in a folder; on a network file system the state of a single file may be stale."""
    return {path.name for path in folder.glob(ANY_SHARD)}


def _is_whole(path: Path, expected: str | None) -> bool:
    """Return whether a shard has the sha256 of its index or, where there is none, is not cut short."""
    if expected is not None:
        return path.is_file() and sha256(path) == expected
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


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
    beside: Callable[[int], bool] = lambda number: True,
) -> None:
    """Make this process's missing or damaged shards, and the index if all shards exist then.

    Shards of another plan are replaced.

    Args:
        folder: created if missing.
        plan: with ``count`` and ``shard_size``; any JSON.
        make: returns the tensors of ``length`` images from index ``start`` on, given (start, length).
        summarise: returns additional fields of the index, given all shards.
        process, processes: number of this process, and number of processes.
        progress: called with the number of this process's finished images, and of all its images.
        beside: returns whether all that ``make`` writes besides the shard of a number is there; else it runs again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = json.loads(json.dumps(plan))
    names, lengths, existing = _names(plan), shard_lengths(plan["count"], plan["shard_size"]), _existing(folder)
    own = range(process, len(names), processes)
    hashes = (_whole_index(folder) or {}).get("shards", {})

    def is_whole(number: int) -> bool:
        name = names[number]
        return name in existing and _is_whole(folder / name, hashes.get(name)) and beside(number)

    missing = [number for number in own if not is_whole(number)]
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
    written = (_whole_index(folder) or {}).get("shards", {})
    if list(written) == names or not existing.issuperset(names):
        return
    with safe_open(folder / names[0], "pt") as first:
        tensors = sorted(first.keys())
    steps = plan.get(STEPS, {})
    shapes = [tensor.shape[1:] for tensor in open_shard(folder / names[0], lengths[0], tensors, steps=steps).values()]
    shards = [open_shard(folder / name, n, tensors, shapes, steps) for name, n in zip(names, lengths, strict=True)]
    hashes = {name: sha256(folder / name) for name in names}
    sizes = {name: (folder / name).stat().st_size for name in names}
    index = {**plan, **summarise(shards), "shards": hashes, "sizes": sizes}
    write_atomically(folder / INDEX, json.dumps({**index, "sha256": _sha256_of(index)}, indent=1) + "\n")
    others = [folder / name for name in existing.difference(names)]
    for stale in [*others, *folder.glob(f".{ANY_SHARD}.*"), *folder.glob("*.damaged")]:
        stale.unlink(missing_ok=True)


def check_files(folder: Path, index: dict[str, Any]) -> None:
    """Check the shards' sizes and time stamps against the index, and the content of those changed after it was written.

    Reads no shard of an unchanged folder. An index without sizes is checked by ``verify``.

    Raises:
        CacheError: a shard differs from the index; it is set aside with the index.
    """
    sizes = index.get("sizes")
    if sizes is None:
        return verify(folder, index)
    written = (folder / INDEX).stat().st_mtime_ns

    def is_unchanged(name: str) -> bool:
        path = folder / name
        return path.is_file() and path.stat().st_size == sizes[name] and path.stat().st_mtime_ns < written

    verify(folder, index, [name for name in index["shards"] if not is_unchanged(name)])


def verify(folder: Path, index: dict[str, Any], names: Sequence[str] | None = None) -> None:
    """Read shards, by default all; raise ``CacheError`` if the sha256 of one differs from the index.

    All that differ are set aside with the index.
    """
    chosen = index["shards"] if names is None else names
    damaged = [folder / name for name in chosen if not _is_whole(folder / name, index["shards"][name])]
    errors = [_damaged(path, "damaged (sha256 differs)") for path in damaged]
    if errors:
        raise errors[0]


def _damaged(path: Path, reason: str) -> CacheError:
    """Set a damaged shard and the index of its folder aside, and return the error about it."""
    remedy = set_aside(path)
    with suppress(OSError):  # missing, or in a folder of somebody else
        (path.parent / INDEX).unlink()
    return CacheError(f"{path}: {reason}; {remedy}")
