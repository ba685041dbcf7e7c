# SPDX-License-Identifier: Apache-2.0
"""Opens a bundle; each file is compared with its sha256 before it is used."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from dcae.benchmark import Benchmark, Config
from dcae.files import sha256
from workflow import layout
from workflow.bundle.contents import CONFIG, PUBLISHED, BundleError
from workflow.bundle.crate import METADATA

SMALL = 1 << 30  # bytes that a zip file may hold however small it is
LARGEST_RATIO = 100  # of what a larger one holds to its own size; tables and logs compress to a tenth


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, whose files are as they were when it was made."""

    folder: Path
    name: str

    def benchmark(self) -> Benchmark:
        """Return the benchmark with the entries of the bundle, whatever the checkout has."""
        config = self.folder / CONFIG
        return Benchmark.load(config / f"{self.name}.yaml", Config(config, repository=False))

    @property
    def results(self) -> Path:
        """Folder of all results."""
        return self.folder / layout.RESULTS

    @property
    def published(self) -> Path:
        """Folder of the published numbers."""
        return self.folder / PUBLISHED


def is_bundle(path: Path) -> bool:
    """Return whether a path is that of a bundle, a zip file or a folder."""
    return (path / METADATA).is_file() or (path.suffix == ".zip" and path.is_file())


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Check a bundle and open it; a zip file is unpacked for as long as the block lasts.

    Raises:
        BundleError: it is none, or a file in it is missing, changed, or not listed.
    """
    if path.is_dir():
        yield _checked(path, path)
        return
    with tempfile.TemporaryDirectory(prefix="dcae-bundle-") as folder:
        _unpack(path, Path(folder))
        yield _checked(path, Path(folder))


@contextmanager
def folder_of_run(path: Path) -> Iterator[Path]:
    """Give the folder of a run, ``results/<benchmark>``: the path itself, or that in a bundle."""
    if not is_bundle(path):
        yield path
        return
    with opened(path) as bundle:
        yield bundle.results / bundle.name


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            _check_members(path, members)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, FileExistsError) as error:
        raise BundleError(f"{path}: not a bundle that can be unpacked: {error}") from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise ``BundleError`` for members that would be written elsewhere, or that are larger than the archive allows."""
    for member in members:
        if not _is_inside(member.filename):
            raise BundleError(f"{path}: {member.filename!r} lies outside the bundle; nothing was unpacked")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise BundleError(f"{path}: {member.filename} is a link; nothing was unpacked")
    size, most = sum(member.file_size for member in members), max(SMALL, LARGEST_RATIO * path.stat().st_size)
    if size > most:
        raise BundleError(f"{path}: holds {size:,} bytes, more than the {most:,} expected; nothing was unpacked")


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and ":" not in parts[0]


def _checked(path: Path, folder: Path) -> Bundle:
    """Return the bundle in a folder; ``path``: the one that the user gave, for errors."""
    listed = _listed(path, folder)
    there = {each.relative_to(folder).as_posix(): each for each in folder.rglob("*") if not each.is_dir()}
    links = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_symlink())
    faults = [
        *(f"{name} is a link" for name in links),
        *(f"{name} is missing" for name in listed if name not in there),
        *(f"{name} is not listed in {METADATA}" for name in sorted(there) if name not in (METADATA, *listed)),
    ]
    faults = faults or [
        f"{name} was changed (sha256 differs)" for name in listed if sha256(there[name]) != listed[name]
    ]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise BundleError(f"{path}: {faults[0]}{more}; get the bundle anew")
    names = {PurePosixPath(name).parts[1] for name in listed if name.startswith(f"{layout.RESULTS}/")}
    if len(names) != 1 or f"{CONFIG}/{min(names)}.yaml" not in listed:
        raise BundleError(f"{path}: an RO-Crate, but not of dcae bundle: expected config/NAME.yaml and results/NAME")
    return Bundle(folder, min(names))


def _listed(path: Path, folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that the metadata lists."""
    try:
        graph = json.loads((folder / METADATA).read_bytes())["@graph"]
        files = [each for each in graph if "File" in each["@type"]]
        return {unquote(each["@id"]): each["sha256"] for each in files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: no RO-Crate of dcae bundle: {METADATA} cannot be read ({error!r})") from None
