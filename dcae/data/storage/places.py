# SPDX-License-Identifier: Apache-2.0
"""A path may lead into a zip file as into a folder."""

from __future__ import annotations

from pathlib import Path

from dcae.data.errors import DatasetError
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import Files
from dcae.data.storage.folders import FolderFiles


def _within_zip(path: Path) -> tuple[Path, str] | None:
    """A path within a zip file as (the zip file, the path in it); ``None`` if no part of it is a zip file."""
    for part in (path, *path.parents):
        if part.suffix.lower() == ".zip" and part.is_file():
            inner = path.relative_to(part).as_posix()
            return part, "" if inner == "." else f"{inner}/"
    return None


def is_there(path: Path | str) -> bool:
    """Whether anything lies at a path, which may lead into a zip file."""
    path = Path(path).expanduser()
    return path.exists() or _within_zip(path) is not None


def open_files(path: Path | str, refresh: bool = False) -> Files:
    """The files in a folder, in a zip file, or in a folder of a zip file (``data/mine.zip/train``).

    Args:
        path: ``.`` and ``..`` are followed as usual, but not within a zip file.
        refresh: list anew what is remembered.

    Raises:
        DatasetError: there is no such folder, or it cannot be listed safely.
    """
    path = Path(path).expanduser()
    if zipped := _within_zip(path):
        archive, prefix = zipped
        return ArchiveFiles([archive], prefix, refresh=refresh)
    return FolderFiles(path, refresh)


def read_side_file(path: Path | str, purpose: str) -> bytes:
    """A file of a data set that is no image, also from within a zip file.

    Args:
        path: of the file.
        purpose: what it is needed for, for the error.

    Raises:
        DatasetError: it is missing.
    """
    path = Path(path).expanduser()
    if zipped := _within_zip(path.parent):
        files = ArchiveFiles([zipped[0]], zipped[1])
        numbers = [number for number, name in enumerate(files.names.to_pylist()) if name == path.name]
        if numbers:
            return files.read(numbers[0])
    elif path.is_file():
        return path.read_bytes()
    raise DatasetError(
        f"{path.absolute()}: missing, needed for {purpose}; put it there, or correct `path` in the entry"
    )
