# SPDX-License-Identifier: Apache-2.0
"""What every part of the project does with files."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no other process has, on this machine or on another that shares the folder."""
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path to write a file to, which takes the place of ``path`` once it is complete; half a file is never seen.

    It lies beside it, in a folder that is made if need be. Several processes may write the same; the last one stays.
    After an error it is gone, and ``path`` as it was.
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
    """Sha256 of each file; a folder stands for the safetensors and JSON files directly in it.

    A file is read again only if its size or its time of change differ.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted([*path.glob("*.safetensors"), *path.glob("*.json")]) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    return {str(file): _sha256_of(file, state.st_size, state.st_mtime_ns) for file, state in states}


@functools.lru_cache(maxsize=1024)
def _sha256_of(file: Path, size: int, changed: int) -> str:
    return sha256(file)
