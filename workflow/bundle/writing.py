# SPDX-License-Identifier: Apache-2.0
"""Writes a bundle as a zip file or a folder: equal results give equal bytes, and nothing half-written is left."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from dcae.benchmark import Benchmark
from dcae.files import replacing, temporary_beside
from workflow.bundle.contents import BundleError, contents
from workflow.bundle.crate import METADATA, Content, metadata

CHUNK = 1 << 20
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can name
READABLE = 0o100644 << 16

Add = Callable[[str, BinaryIO], Content]


def write_bundle(benchmark: Benchmark, results: Path, output: Path, weights: bool = False) -> dict[str, Content]:
    """Write a benchmark's results as an RO-Crate; return the files in it.

    Args:
        results: folder of all results.
        output: zip file, or folder to create if it ends otherwise.
        weights: whether the weights that were trained are among the files.

    Raises:
        BundleError: there are no results, or the folder exists.
        RecordError: a record is damaged.
    """
    written = {}
    files = contents(benchmark, results, weights)
    with (_zip if output.suffix == ".zip" else _folder)(output) as add:
        for name, path in files.items():
            with path.open("rb") as file:
                written[name] = add(name, file)
        add(METADATA, BytesIO(metadata(benchmark, files, written).encode()))
    return written


def _copied(source: BinaryIO, target: BinaryIO) -> Content:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        size += target.write(chunk)
    return Content(size, digest.hexdigest())


@contextmanager
def _zip(output: Path) -> Iterator[Add]:
    with replacing(output) as temporary, zipfile.ZipFile(temporary, "w") as archive:

        def add(name: str, source: BinaryIO) -> Content:
            member = zipfile.ZipInfo(name, EARLIEST)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, READABLE
            with archive.open(member, "w", force_zip64=True) as target:
                return _copied(source, target)

        yield add


@contextmanager
def _folder(output: Path) -> Iterator[Add]:
    if output.exists():
        raise BundleError(f"{output} exists; remove it, or give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(output)

    def add(name: str, source: BinaryIO) -> Content:
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            return _copied(source, target)

    try:
        yield add
        os.rename(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
