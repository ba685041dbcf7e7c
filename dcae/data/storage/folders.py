# SPDX-License-Identifier: Apache-2.0
"""Files in a folder and its sub-folders, with a cached listing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dcae.data.storage import cache
from dcae.data.storage.files import DatasetError, Files, check_utf8, is_data, order, state_of

THREADS = 16  # listing waits for the file system, not for the processor
SPOT_CHECKS = 1024  # files of a cached listing whose size is checked; 0.1 s on a network file system
TICK = 2.0  # seconds; the coarsest clock of a common file system


class _Folder(NamedTuple):
    """The direct content of a folder, and its modification time before it was listed."""

    path: str
    changed: int  # nanoseconds
    folders: list[str]
    names: list[str]
    sizes: list[int]


class FolderFiles(Files):
    """Every file below a folder, without hidden ones and what systems leave behind (``is_data``).

    A listing is cached (module ``cache``) while no folder has changed, that is, no file was added, removed or renamed,
    and evenly spaced files keep their sizes, so that rewriting all or many images in place is noticed. Rewriting a
    single one is noticed only with ``refresh``, which ``dcae data check`` uses.

    Args:
        root: the folder.
        refresh: list again.

    Raises:
        DatasetError: the folder is missing, or a link below it leads out of it.
    """

    def __init__(self, root: Path | str, refresh: bool = False):
        self.folder = Path(root)
        self.root = str(self.folder)
        if not self.folder.is_dir():
            raise DatasetError(
                f"{self.folder.absolute()}: no such folder; put the images there, or correct `path` in the entry"
            )
        self.place = str(self.folder.resolve())
        key = f"folder {self.place}"
        found = None if refresh else cache.load(key)
        if found is None or not _unchanged(self.folder, *found):
            found = _listed(self.folder)
            # A folder changed just now may change again within the same tick of the file system's clock.
            if time.time() - max(found[0].values()) / 1e9 > TICK:
                cache.store(key, *found)
        changed, table = found
        self.folders = list(changed)
        self.names = table["name"].combine_chunks()
        self.sizes = table["size"].to_numpy()
        self.state = state_of(self.names, self.sizes)

    def where(self, number: int) -> str:
        return str(self.folder / self.name(number))

    def read(self, number: int) -> bytes:
        return self.beginning(number, -1)

    def beginning(self, number: int, length: int) -> bytes:
        try:
            with (self.folder / self.name(number)).open("rb") as file:
                return file.read(length)
        except OSError as error:
            raise DatasetError(
                f"{self.where(number)}: cannot be read ({error}); put the file back, or correct its permissions"
            ) from error


def _unchanged(root: Path, changed: dict[str, int], table: pa.Table) -> bool:
    def same_time(path: str) -> bool:
        try:
            return os.stat(root / path).st_mtime_ns == changed[path]
        except OSError:
            return False

    def same_size(number: int) -> bool:
        try:
            return os.stat(root / table["name"][number].as_py()).st_size == table["size"][number].as_py()
        except OSError:
            return False

    spaced = range(0, len(table), -(-len(table) // SPOT_CHECKS) or 1)
    with ThreadPoolExecutor(THREADS) as pool:
        return all(pool.map(same_time, changed)) and all(pool.map(same_size, spaced))


def _listed(root: Path) -> tuple[dict[str, int], pa.Table]:
    """Return the modification time of each folder, and a table of the files."""
    found = sorted(_walk(root))
    files = sorted(
        (order(name), name, size) for folder in found for name, size in zip(folder.names, folder.sizes, strict=True)
    )
    names = pa.array([name for _, name, _ in files], pa.string())
    sizes = np.array([size for _, _, size in files], np.int64)
    return {folder.path: folder.changed for folder in found}, pa.table({"name": names, "size": sizes})


def _walk(root: Path) -> Iterator[_Folder]:
    real = root.resolve()
    level = [""]
    with ThreadPoolExecutor(THREADS) as pool:
        while level:
            found = list(pool.map(lambda path: _scan(root, real, path), level))
            yield from found
            level = [path for folder in found for path in folder.folders]


def _scan(root: Path, real: Path, path: str) -> _Folder:
    try:
        changed = os.stat(root / path).st_mtime_ns  # read before listing, so that a later change is noticed
        with os.scandir(root / path) as entries:
            visible = [entry for entry in entries if is_data(entry.name)]
        folder = _Folder(path, changed, [], [], [])
        for entry in visible:
            name = f"{path}/{entry.name}".lstrip("/")
            check_utf8(name, str(root))
            if entry.is_symlink():
                _check_link(Path(entry.path), real)
            if entry.is_dir():
                folder.folders.append(name)
            elif entry.is_file():
                folder.names.append(name)
                folder.sizes.append(entry.stat().st_size)
            else:
                raise DatasetError(f"{entry.path}: a pipe, a socket or a device, not a file; remove it")
    except OSError as error:
        raise DatasetError(f"{root / path}: cannot be listed ({error}); correct its permissions") from error
    return folder


def _check_link(link: Path, real: Path) -> None:
    """Refuse links to folders and links out of the root, whose targets would change unnoticed."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise DatasetError(f"{link}: a broken link ({error}); remove it, or restore its target") from None
    if not target.is_relative_to(real):
        raise DatasetError(
            f"{link}: a link to {target}, outside the dataset's folder; put the files themselves there, "
            "or set `path` to the folder that has them"
        )
    if target.is_dir():
        raise DatasetError(f"{link}: a link to another folder of the dataset, whose images would count twice")
