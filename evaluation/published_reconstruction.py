# SPDX-License-Identifier: Apache-2.0
"""Reconstruction as others have published it, read from ``config/published/reconstruction.csv``: a line per source.

Columns of the file: ``autoencoder`` (the entry here that has the same weights; empty if there is none, or if the source
does not say which weights), ``printed_name``, ``dataset``, ``split``, ``resolution`` (pixels), ``images`` (N, if
stated), the metrics of ``METRICS`` as printed, ``protocol`` as far as it is known, ``source`` and ``note``.

Such numbers come from as many protocols as sources: the same public weights get an rFID from 0.61 to 0.90 and a PSNR
from 31.1 to 32.9 dB. They are shown apart from measured ones, and are never compared with them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.published import PUBLISHED_FOLDER

FILE = PUBLISHED_FOLDER / "reconstruction.csv"
METRICS = ("rfid", "psnr", "ssim", "lpips", "psim", "rfdd")
REQUIRED = ("printed_name", "dataset", "split", "resolution", "protocol", "source")
COLUMNS = [
    "autoencoder", "printed_name", "dataset", "split", "resolution", "images", *METRICS, "protocol", "source", "note",
]  # fmt: skip


@dataclass(frozen=True)
class PublishedReconstruction:
    """What one source prints of one autoencoder on one data set; ``values``: metric to the number as printed."""

    autoencoder: str | None
    printed_name: str
    dataset: str
    split: str
    resolution: int
    images: int | None
    values: dict[str, str]
    protocol: str
    source: str
    note: str | None


def read_published_reconstruction(path: Path = FILE) -> list[PublishedReconstruction]:
    """Every line of the file, in its order.

    Raises:
        ValueError: naming the file and the line that cannot be read.
    """
    with Path(path).open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path}: expected the columns {COLUMNS}, got {reader.fieldnames}")
        return list(_lines(reader, path))


def has_published_elsewhere(autoencoders: Iterable[str]) -> bool:
    """True if anything is published elsewhere about one of these entries."""
    return bool(set(autoencoders) & {row.autoencoder for row in read_published_reconstruction()})


def _lines(reader: csv.DictReader, path: Path) -> Iterator[PublishedReconstruction]:
    seen: dict[tuple, int] = {}
    for line in reader:
        try:
            row = _row(line)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
        key = row.printed_name, row.dataset, row.split, row.resolution, row.images, row.source
        if key in seen:
            raise ValueError(f"{path}, line {reader.line_num}: line {seen[key]} is of the same source and autoencoder")
        seen[key] = reader.line_num
        yield row


def _row(line: dict[str, str]) -> PublishedReconstruction:
    given = {name: text or None for name, text in line.items()}
    for name in REQUIRED:
        if given[name] is None:
            raise ValueError(f"{name} is empty")
    values = {name: given.pop(name) for name in METRICS}
    values = {name: text for name, text in values.items() if text is not None}
    if not values:
        raise ValueError(f"no number: give at least one of {', '.join(METRICS)}")
    for text in values.values():
        float(text)
    images = int(given["images"]) if given["images"] else None
    return PublishedReconstruction(**{**given, "resolution": int(given["resolution"]), "images": images}, values=values)
