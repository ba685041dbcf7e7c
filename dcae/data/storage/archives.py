# SPDX-License-Identifier: Apache-2.0
"""Files in zip and tar archives, read in place by an index of their members; nothing is ever extracted."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.data.errors import DatasetError
from dcae.data.storage import cache
from dcae.data.storage.files import Files, check_utf8, order, state_of

THREADS = 16  # an index waits for the file system, not for the processor
MOST_OPEN = 64  # archives that one process keeps open
LONG = 2**30  # bytes of an archive whose first index is worth a line to the user
NO_CRC = -1
LOCAL_HEADER = 30  # bytes before the name in a zip file, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT


class Member(NamedTuple):
    """One file in an archive: where its bytes lie and what they are."""

    name: str
    offset: int
    length: int  # of the stored bytes
    size: int  # of the content
    crc: int  # of the content; NO_CRC in tar archives
    deflated: bool


SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("size", pa.int64()),
        ("crc", pa.int64()),
        ("deflated", pa.bool_()),
    ]
)


class ArchiveFiles(Files):
    """The files in one or more archives; each process opens the archives for itself, and reads without a shared place.

    Args:
        archives: zip or uncompressed tar files; members of the first come first.
        prefix: folder within the archives, ending in "/"; only what is below it counts, under its name from there.
        ending: only members whose names end so.
        nested: the archives are tars of tars; a member of ``a.tar`` is named ``a/member``.
        refresh: index anew what is remembered.

    Raises:
        DatasetError: an archive is missing, cannot be indexed, or holds what could write or read elsewhere.
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
            states = list(pool.map(_state, self.archives))
            tables = list(pool.map(lambda *each: _index(*each, nested, refresh), self.archives, states))
        if ending:
            tables = [table.filter(pc.ends_with(table["name"], ending)) for table in tables]
        lengths = [len(table) for table in tables]
        table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
        table = table.append_column("archive", pa.array(np.repeat(np.arange(len(tables)), lengths), pa.int64()))
        if prefix:
            table = table.filter(pc.starts_with(table["name"], prefix))
        names = table["name"].combine_chunks()
        self.names = pc.utf8_slice_codeunits(names, len(prefix)) if prefix else names
        self.sizes, self.archive, self.offsets, self.lengths, self.crcs = (
            table[column].to_numpy() for column in ("size", "archive", "offset", "length", "crc")
        )
        self.deflated = table["deflated"].combine_chunks().to_numpy(zero_copy_only=False)
        self.state = state_of(self.names, self.sizes, str(states))
        self._open: dict[int, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def where(self, number: int) -> str:
        return f"{self.archives[self.archive[number]]}: member {self.name(number)}"

    def read(self, number: int) -> bytes:
        size = int(self.sizes[number])
        data = self.beginning(number, size + 1)
        if len(data) != size or self.crcs[number] not in (NO_CRC, zlib.crc32(data)):
            raise DatasetError(f"{self.where(number)}: is cut off or damaged; get the archive again")
        return data

    def beginning(self, number: int, length: int) -> bytes:
        deflated, stored = self.deflated[number], int(self.lengths[number])
        try:
            # Unlike seek and read, this leaves no place behind that forked processes would share.
            data = os.pread(
                self._descriptor(int(self.archive[number])),
                stored if deflated else min(stored, length),
                int(self.offsets[number]),
            )
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, length) if deflated else data
        except (OSError, zlib.error) as error:
            raise DatasetError(f"{self.where(number)}: cannot be read ({error}); get the archive again") from error

    def _descriptor(self, archive: int) -> int:
        if archive not in self._open:
            if len(self._open) == MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[archive] = self.archives[archive].open("rb")
        return self._open[archive].fileno()


def _state(archive: Path) -> list[int]:
    try:
        status = archive.stat()
    except OSError as error:
        raise DatasetError(
            f"{archive.absolute()}: no such file ({error}); put it there, or correct `path` in the entry"
        ) from None
    return [status.st_size, status.st_mtime_ns]


def _index(archive: Path, state: list[int], nested: bool, refresh: bool) -> pa.Table:
    """A table of an archive's members, as remembered or made now."""
    key = f"archive {archive.resolve()}{' nested' if nested else ''}"
    found = None if refresh else cache.load(key)
    if found is not None and found[0] == state:
        return found[1]
    if state[0] > LONG:
        print(f"{archive}: indexing its members, which is done once", file=sys.stderr, flush=True)
    members = sorted(_checked(archive, _members(archive, nested)), key=lambda member: order(member.name))
    columns = zip(*members, strict=True) if members else [[] for _ in SCHEMA]
    table = pa.table([list(column) for column in columns], schema=SCHEMA)
    cache.store(key, state, table)
    return table


def _members(archive: Path, nested: bool) -> Iterator[Member]:
    if archive.suffix.lower() == ".zip":
        return _zip_members(archive)
    return _nested_members(archive) if nested else _tar_members(archive)


def _checked(archive: Path, members: Iterator[Member]) -> list[Member]:
    """The members but hidden ones, their names in plain form.

    Raises:
        DatasetError: a name leads out of the archive, or stands twice in it.
    """
    found: dict[str, Member] = {}
    for member in members:
        name = member.name.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
            raise DatasetError(
                f"{archive}: member {member.name!r} has a name that leads out of the archive; do not trust this file"
            )
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):  # macOS adds the latter to its zip files
            continue
        name = "/".join(parts)
        check_utf8(name, str(archive))
        if name in found:
            raise DatasetError(
                f"{archive}: two members are named {name}; which one counts is open: make the archive anew"
            )
        found[name] = member._replace(name=name)
    return list(found.values())


def _zip_members(archive: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(archive) as opened, archive.open("rb") as file:
            for info in opened.infolist():
                if not info.is_dir():
                    yield _zip_member(archive, file, info)
    except DatasetError:
        raise
    except Exception as error:  # of a damaged file, zipfile raises errors of many types
        raise DatasetError(
            f"{archive}: cannot be read as a zip file ({error}); get it again, and if it came in parts "
            f"(.z01, .z02, …), join them: zip -s 0 {archive.name} --out whole.zip"
        ) from error


def _zip_member(archive: Path, file: BinaryIO, info: zipfile.ZipInfo) -> Member:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DatasetError(f"{archive}: member {info.filename} is a link; make the archive with the files themselves")
    if info.flag_bits & 1:
        raise DatasetError(f"{archive}: member {info.filename} is encrypted; make the archive without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetError(
            f"{archive}: member {info.filename} is compressed by method {info.compress_type}; "
            "make the archive with stored or deflated members"
        )
    header = os.pread(file.fileno(), LOCAL_HEADER, info.header_offset)
    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise DatasetError(f"{archive}: member {info.filename} is cut off or damaged; get the archive again")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    offset = info.header_offset + LOCAL_HEADER + name + extra
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Member(info.filename, offset, info.compress_size, info.file_size, info.CRC, deflated)


def _tar_members(archive: Path, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """Members of a tar archive, or of one that lies within another file between two offsets."""
    end = archive.stat().st_size if end is None else end
    try:
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
                        raise DatasetError(f"{archive}: is cut off within member {info.name}; get the archive again")
                    yield Member(info.name, info.offset_data, info.size, info.size, NO_CRC, False)
                    opened.members = []  # a million of them would fill the memory
    except DatasetError:
        raise
    except Exception as error:  # of a damaged file, tarfile raises errors of many types
        raise DatasetError(
            f"{archive}: cannot be read as an uncompressed tar file ({error}); get it again, or uncompress it"
        ) from error


def _nested_members(archive: Path) -> Iterator[Member]:
    """Members of the tar archives in a tar archive."""
    tars = [member for member in _tar_members(archive) if member.name.endswith(".tar")]

    def within(tar: Member) -> list[Member]:
        folder = tar.name.removesuffix(".tar")
        inner = _tar_members(archive, tar.offset, tar.offset + tar.size)
        return [member._replace(name=f"{folder}/{member.name}") for member in inner]

    with ThreadPoolExecutor(THREADS) as pool:
        for members in pool.map(within, tars):
            yield from members
