# SPDX-License-Identifier: Apache-2.0
"""Files in zip and tar archives, read in place by a cached index; nothing is ever extracted."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.data.storage import cache
from dcae.data.storage.files import DatasetError, Files, check_utf8, expanded, is_data, order, state_of
from dcae.data.storage.folders import FolderFiles

THREADS = 16  # indexing waits for the file system, not for the processor
LARGE = 2**30  # bytes of an archive whose indexing is announced
SCHEMA = pa.schema([("name", pa.string()), ("place", pa.int64()), ("size", pa.int64())])


class Member(NamedTuple):
    """One file in an archive."""

    name: str
    place: int  # offset of the content in a tar archive, number in the directory of a zip file
    size: int  # of the content, in bytes


class ArchiveFiles(Files):
    """The files in one or more archives, for any number of threads and processes.

    Each process opens a zip file once and keeps its directory in memory, about 500 bytes per member.

    Args:
        archives: zip or uncompressed tar files; members are ordered by archive first.
        prefix: folder within the archives, ending in "/"; other members are ignored, and names start below it.
        ending: only members whose names end so.
        nested: the archives are tars of tars; a member of ``a.tar`` is named ``a/member``.
        refresh: index again.

    Raises:
        DatasetError: an archive is missing, cannot be indexed, or has members with unsafe names or types.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        prefix: str = "",
        ending: str = "",
        nested: bool = False,
        refresh: bool = False,
    ):
        self.archives = [Path(archive) for archive in archives]
        self.root = ", ".join(str(archive) for archive in self.archives[:3]) + (", …" if len(archives) > 3 else "")
        self.place = "; ".join(str(archive.resolve()) for archive in self.archives) + f" {prefix}"
        with ThreadPoolExecutor(THREADS) as pool:
            self.states = list(pool.map(_state, self.archives))
            tables = list(pool.map(lambda *each: _index(*each, nested, refresh), self.archives, self.states))
        if ending:
            tables = [table.filter(pc.ends_with(table["name"], ending)) for table in tables]
        lengths = [len(table) for table in tables]
        table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
        table = table.append_column("archive", pa.array(np.repeat(np.arange(len(tables)), lengths), pa.int64()))
        if prefix:
            table = table.filter(pc.starts_with(table["name"], prefix))
        names = table["name"].combine_chunks()
        self.names = pc.utf8_slice_codeunits(names, len(prefix)) if prefix else names
        self.sizes, self.archive, self.places = (table[column].to_numpy() for column in ("size", "archive", "place"))
        self.state = state_of(self.names, self.sizes, str(self.states))
        self._zips: dict[tuple[int, int], zipfile.ZipFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_zips": {}}

    def where(self, number: int) -> str:
        return f"{self.archives[self.archive[number]]}: member {self.name(number)}"

    def read(self, number: int) -> bytes:
        data = self.beginning(number, int(self.sizes[number]) + 1)  # at the end, zipfile checks the CRC
        if len(data) != self.sizes[number]:
            raise DatasetError(f"{self.where(number)}: is cut off or damaged; download the archive again")
        return data

    def beginning(self, number: int, length: int) -> bytes:
        archive, place = int(self.archive[number]), int(self.places[number])
        try:
            if _is_zip(self.archives[archive]):
                opened = self._zip(archive)
                with opened.open(opened.infolist()[place]) as member:
                    return member.read(length)
            with self.archives[archive].open("rb") as file:
                file.seek(place)
                return file.read(min(length, int(self.sizes[number])))
        except Exception as error:  # zipfile raises errors of many types for a damaged file
            raise DatasetError(f"{self.where(number)}: cannot be read ({error}); download the archive again") from error

    def _zip(self, archive: int) -> zipfile.ZipFile:
        key = os.getpid(), archive  # a forked process would share the position in the file with its parent
        if key not in self._zips:
            if _state(self.archives[archive]) != self.states[archive]:
                raise OSError("the archive has changed since it was indexed")
            self._zips[key] = zipfile.ZipFile(self.archives[archive])
        return self._zips[key]


# --- the index of an archive ---


def _is_zip(archive: Path) -> bool:
    return archive.suffix.lower() == ".zip"


def _state(archive: Path) -> list[int]:
    try:
        status = archive.stat()
    except OSError as error:
        raise DatasetError(
            f"{archive.absolute()}: no such file ({error}); put it there, or correct `path` in the entry"
        ) from None
    return [status.st_size, status.st_mtime_ns]


def _index(archive: Path, state: list[int], nested: bool, refresh: bool) -> pa.Table:
    """Return a table of an archive's members, sorted by name, from the cache if possible."""
    key = f"archive {archive.resolve()}{' nested' if nested else ''}"
    found = None if refresh else cache.load(key)
    if found is not None and found[0] == state:
        return found[1]
    if state[0] > LARGE:
        print(f"{archive}: indexing its members, once", file=sys.stderr, flush=True)
    members = sorted(_checked(archive, _members(archive, nested)), key=lambda member: order(member.name))
    columns = zip(*members, strict=True) if members else [[] for _ in SCHEMA]
    table = pa.table([list(column) for column in columns], schema=SCHEMA)
    cache.store(key, state, table)
    return table


def _checked(archive: Path, members: Iterable[Member]) -> list[Member]:
    """Return the members that are data, with normalised names.

    Raises:
        DatasetError: a name leads out of the archive or is not unique.
    """
    found: dict[str, Member] = {}
    for member in members:
        name = member.name.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
            raise DatasetError(
                f"{archive}: member {member.name!r} has a name that leads out of the archive; do not trust this file"
            )
        if not all(map(is_data, parts)):
            continue
        name = "/".join(parts)
        check_utf8(name, str(archive))
        if name in found:
            raise DatasetError(f"{archive}: two members are named {name}; make the archive again with one of them")
        found[name] = member._replace(name=name)
    return list(found.values())


def _members(archive: Path, nested: bool) -> Iterator[Member]:
    try:
        if _is_zip(archive):
            yield from _zip_members(archive)
        else:
            yield from _nested_members(archive) if nested else _tar_members(archive)
    except DatasetError:
        raise
    except Exception as error:  # zipfile and tarfile raise errors of many types for a damaged file
        kind, advice = "an uncompressed tar file", "download it again, or uncompress it"
        if _is_zip(archive):
            kind = "a zip file"
            advice = (
                f"download it again; if it came in parts (.z01, .z02, …), join them: "
                f"zip -s 0 {archive.name} --out whole.zip"
            )
        raise DatasetError(f"{archive}: cannot be read as {kind} ({error}); {advice}") from error


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for place, info in enumerate(opened.infolist()):
            problem = None
            if stat.S_ISLNK(info.external_attr >> 16):
                problem = "is a link; make the archive with the files themselves"
            elif info.flag_bits & 1:
                problem = "is encrypted; make the archive without a password"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                problem = (
                    f"is compressed by method {info.compress_type}; make the archive with stored or deflated members"
                )
            if problem:
                raise DatasetError(f"{archive}: member {info.filename} {problem}")
            if not info.is_dir():
                yield Member(info.filename, place, info.file_size)


def _tar_members(archive: Path, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """Yield the members of a tar archive, or of one stored between two offsets of another file."""
    end = archive.stat().st_size if end is None else end
    with archive.open("rb") as file:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as opened:
            for info in opened:
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise DatasetError(
                        f"{archive}: member {info.name} is a link or a special file; "
                        "make the archive with the files themselves"
                    )
                if info.offset_data + info.size > end:
                    raise DatasetError(f"{archive}: is cut off within member {info.name}; download the archive again")
                yield Member(info.name, info.offset_data, info.size)
                opened.members = []  # a million of them would fill the memory


def _nested_members(archive: Path) -> Iterator[Member]:
    """Yield the members of the tar archives in a tar archive."""
    tars = [member for member in _tar_members(archive) if member.name.endswith(".tar")]

    def within(tar: Member) -> list[Member]:
        folder = tar.name.removesuffix(".tar")
        inner = _tar_members(archive, tar.place, tar.place + tar.size)
        return [member._replace(name=f"{folder}/{member.name}") for member in inner]

    with ThreadPoolExecutor(THREADS) as pool:
        for members in pool.map(within, tars):
            yield from members


# --- paths into zip files ---


def _within_zip(path: Path) -> tuple[Path, str] | None:
    """Split a path within a zip file into (zip file, prefix in it); ``None`` if no part of it is a zip file."""
    for part in (path, *path.parents):
        if _is_zip(part) and part.is_file():
            inner = path.relative_to(part).as_posix()
            return part, "" if inner == "." else f"{inner}/"
    return None


def is_there(path: Path | str) -> bool:
    """Return whether a path, possibly into a zip file, exists."""
    path = expanded(path)
    return path.exists() or _within_zip(path) is not None


def open_files(path: Path | str, refresh: bool = False) -> Files:
    """Open the files in a folder, in a zip file, or in a folder of a zip file (``data/mine.zip/train``).

    Args:
        path: ``.`` and ``..`` are resolved as usual, but not within a zip file.
        refresh: ignore the cached listing.

    Raises:
        DatasetError: there is no such folder, or it cannot be listed safely.
    """
    path = expanded(path)
    if zipped := _within_zip(path):
        archive, prefix = zipped
        return ArchiveFiles([archive], prefix, refresh=refresh)
    return FolderFiles(path, refresh)


def read_side_file(path: Path | str, purpose: str) -> bytes:
    """Read a file of a dataset that is not an image, possibly from within a zip file.

    Args:
        path: of the file.
        purpose: what the file is needed for, for the error.

    Raises:
        DatasetError: it is missing.
    """
    path = expanded(path)
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
