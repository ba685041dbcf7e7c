# SPDX-License-Identifier: Apache-2.0
"""What every part of the project does with files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
