# SPDX-License-Identifier: Apache-2.0
"""Atomic writes and content hashes of files."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
def replacing(path: Path | str, temporary: Path | None = None) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path that replaces ``path`` when the block ends.

    Missing parent folders are made, and temporary files that killed processes of this machine left there are removed.
    If several processes write the same file, the last one wins. After an error the temporary file is removed and
    ``path`` is unchanged.

    Args:
        path: file to write.
        temporary: temporary path; default: one that no other process uses.

    Raises:
        DiskFull: there is no space left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_killed_processes_left(path.parent)
    temporary = temporary or temporary_beside(path)
    try:
        yield temporary
        with suppress(OSError):  # of a file system without modes
            temporary.chmod(0o666 & ~_umask())  # safetensors gives its files to their owner alone
        os.replace(temporary, path)
    except Exception as error:
        written = temporary.stat().st_size if temporary.is_file() else 0
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(path, written) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)  # there is no other way to read it
    os.umask(mask)
    return mask


@functools.cache
def _remove_what_killed_processes_left(folder: Path) -> None:
    """Remove temporary files of ``replacing`` whose process is gone; once for each folder."""
    for path in folder.glob(f".*.{os.uname().nodename}.*"):
        process = path.suffix.removeprefix(".")
        if process.isdecimal() and path.is_file() and not _is_alive(int(process)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


class DiskFull(OSError):
    """There is no space left for a file."""

    def __init__(self, path: Path, written: int = 0):
        free = shutil.disk_usage(path.parent).free
        super().__init__(
            f"{path.parent}: no space left to write {path.name}, which needs more than {written / 1e6:,.1f} MB; "
            f"{free / 1e6:,.1f} MB are free now. Make room, and run the same command again"
        )


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that a disk or a quota is full."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):  # safetensors has its own class
            return True
        error = error.__cause__ or error.__context__
    return False


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
