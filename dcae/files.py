# SPDX-License-Identifier: Apache-2.0
"""Atomic writes and content hashes of files."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path) -> str:
    """Rename a damaged file to ``*.damaged``, so that it is made anew. Return the remedy, for an error."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        os.replace(path, aside)
    except FileNotFoundError:  # by another process
        pass
    except OSError as error:
        return f"remove {path} ({error.strerror}), and run the same command again, which makes it anew"
    return f"kept as {aside.name}; run the same command again, which makes it anew"


def temporary_beside(path: Path) -> Path:
    """Return a path in the same folder that no other process uses, on this machine or on one that shares the folder."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path that replaces ``path`` when the block ends.

    Missing parent folders are made. If several processes write the same file, the last one wins. After an error the
    temporary file is removed and ``path`` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def content_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each file, by path; a folder means the safetensors and JSON files directly in it.

    Within a process, a file is read again only if its size or its modification time has changed.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted([*path.glob("*.safetensors"), *path.glob("*.json")]) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    return {str(file): _sha256_of(file, state.st_size, state.st_mtime_ns) for file, state in states}


@functools.lru_cache(maxsize=1024)
def _sha256_of(file: Path, size: int, changed: int) -> str:
    return sha256(file)
