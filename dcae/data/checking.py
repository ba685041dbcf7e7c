# SPDX-License-Identifier: Apache-2.0
"""Check a dataset's files: read and decode each once, and report unusual images.

The resulting manifest has one row per image with the sha256 of its file; its fingerprint compares two copies of a data
set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from dcae.benchmark.entries import ImageFilesEntry, MJHQEntry
from dcae.data.decoding import Incomplete, Transparency, decode, lacks_end, read_header
from dcae.data.image_sizes import remember_sizes
from dcae.data.layouts.index import index_split
from dcae.data.split_index import SplitIndex
from dcae.data.storage.files import DatasetError
from dcae.data.workers import in_processes
from dcae.files import replacing

BLOCK = 64  # images per task of a worker process
Rules = tuple[Transparency, Incomplete]  # of the entry
EXAMPLES = 20  # images of a kind that a report names; the manifest has all

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("path", pa.string()),  # the official name
        ("label", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int64()),  # 0 if the header cannot be read
        ("height", pa.int64()),
        ("mode", pa.string()),  # as Pillow names it
        ("orientation", pa.int64()),  # EXIF, 1: upright
        ("deep", pa.bool_()),  # more than 8 bits per channel
        ("animated", pa.bool_()),
        ("transparency", pa.bool_()),  # an alpha channel or a transparent colour
        ("incomplete", pa.bool_()),  # a JPEG without an end marker
        ("error", pa.string()),  # why training and evaluation would refuse the image, or empty
    ]
)


@dataclass(frozen=True)
class Kind:
    """Images with a common peculiarity: their number and the first of them."""

    images: int
    examples: list[str]


@dataclass(frozen=True)
class SplitReport:
    """The findings on one split."""

    images: int
    expected: int | None
    bytes: int
    classes: dict[str, int]  # images per class
    unusable: Kind  # examples are error messages
    kinds: dict[str, Kind]
    smaller: dict[int, int]  # resolution to the number of images that a crop would enlarge


@dataclass(frozen=True)
class Report:
    """The findings on a dataset."""

    dataset: str
    splits: dict[str, SplitReport]
    in_both_splits: Kind  # validation images whose content is a training image as well
    fingerprint: str

    @property
    def passed(self) -> bool:
        """True if every image is usable and their number is the expected one."""
        return all(
            not split.unusable.images and split.expected in (None, split.images) for split in self.splits.values()
        )


def check_dataset(
    entry: ImageFilesEntry,
    resolutions: Sequence[int],
    splits: Sequence[str] | None = None,
    processes: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Report, pa.Table]:
    """Check every image file of a dataset.

    Args:
        entry: of ``config/datasets``; its files are listed again.
        resolutions: for which too small images are counted.
        splits: default: all of the entry.
        processes: number of processes that read and decode.
        progress: called with split, number of images done, and number of images.

    Returns:
        The report and the manifest (``SCHEMA``), in the order of the dataset.

    Raises:
        DatasetError: the dataset cannot be opened.
    """
    uncounted = entry.model_copy(update={"expected_images": None})
    manifests, reports = [], {}
    for split in splits or _splits_of(entry):
        samples = index_split(uncounted, split, refresh=True)
        rows = _examined(samples, split, (entry.transparency, entry.incomplete), processes, progress)
        manifests.append(rows)
        sizes = np.stack([rows[side].to_numpy() for side in ("width", "height")], axis=1)
        if sizes.all():
            remember_sizes(samples, sizes)
        expected = getattr(entry.expected_images, split) if entry.expected_images else None
        reports[split] = _report(rows, samples.classes, expected, resolutions)
    manifest = pa.concat_tables(manifests)
    return Report(entry.name, reports, _in_both_splits(manifest), manifest_fingerprint(manifest)), manifest


def manifest_fingerprint(manifest: pa.Table) -> str:
    """Return the sha256 (first 16 hex digits) of split, path and content of every image."""
    columns = [manifest[column].to_pylist() for column in ("split", "path", "sha256")]
    lines = ("\t".join(row) + "\n" for row in zip(*columns, strict=True))
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def write_manifest(manifest: pa.Table, report: Report, path: Path | str) -> None:
    """Write a manifest as parquet atomically, with dataset and fingerprint as its metadata."""
    table = manifest.replace_schema_metadata({"dataset": report.dataset, "fingerprint": report.fingerprint})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _splits_of(entry: ImageFilesEntry) -> tuple[str, ...]:
    only_evaluated = isinstance(entry, MJHQEntry) and entry.validation_per_category == "all"
    return ("validation",) if only_evaluated else ("train", "validation")


# --- single images ---


def _examined(
    samples: SplitIndex,
    split: str,
    rules: Rules,
    processes: int,
    progress: Callable[[str, int, int], None] | None,
) -> pa.Table:
    blocks = [range(start, min(start + BLOCK, len(samples))) for start in range(0, len(samples), BLOCK)]
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    for found in in_processes(_examine, (samples, split, rules), blocks, processes):
        rows += found
        if len(rows) >= 100 * BLOCK:  # a table needs a tenth of the memory
            tables.append(pa.Table.from_pylist(rows, SCHEMA))
            rows = []
        if progress:
            progress(split, sum(map(len, tables)) + len(rows), len(samples))
    return pa.concat_tables([*tables, pa.Table.from_pylist(rows, SCHEMA)])


def _examine(shared: tuple[SplitIndex, str, Rules], block: range) -> list[dict[str, Any]]:
    samples, split, rules = shared
    return [
        {"split": split, "path": samples.names[index].as_py(), "label": int(samples.labels[index])}
        | _examine_image(samples, index, rules)
        for index in block
    ]


def _examine_image(samples: SplitIndex, index: int, rules: Rules) -> dict[str, Any]:
    found = {"bytes": 0, "sha256": "", "width": 0, "height": 0, "mode": "", "orientation": 1}
    found |= {"deep": False, "animated": False, "transparency": False, "incomplete": False, "error": ""}
    where = samples.where(index)
    try:
        data = samples.read(index)
        found |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        found |= vars(read_header(data, where)) | {"incomplete": lacks_end(data)}
        decode(data, where, *rules)
    except DatasetError as error:
        found["error"] = str(error)
    return found


# --- the whole split ---


def _report(rows: pa.Table, classes: list[str], expected: int | None, resolutions: Sequence[int]) -> SplitReport:
    known = pc.greater(rows["width"], 0)
    short = pc.min_element_wise(rows["width"], rows["height"])
    kinds = {
        "grey": pc.is_in(rows["mode"], pa.array(["1", "L", "LA"])),
        "palette": pc.equal(rows["mode"], "P"),
        "CMYK": pc.equal(rows["mode"], "CMYK"),
        "with an alpha channel": rows["transparency"],
        "more than 8 bits": rows["deep"],
        "animated": rows["animated"],
        "JPEG without an end marker": rows["incomplete"],
        "EXIF-rotated": pc.not_equal(rows["orientation"], 1),
    }
    count = np.bincount(rows["label"].to_numpy(), minlength=len(classes))
    return SplitReport(
        images=len(rows),
        expected=expected,
        bytes=pc.sum(rows["bytes"]).as_py(),
        classes=dict(zip(classes, count.tolist(), strict=True)),
        unusable=_kind(rows["error"], pc.not_equal(rows["error"], "")),
        kinds={name: _kind(rows["path"], mask) for name, mask in kinds.items()},
        smaller={each: pc.sum(pc.and_(known, pc.less(short, each))).as_py() for each in resolutions},
    )


def _kind(texts: pa.ChunkedArray, mask: pa.ChunkedArray) -> Kind:
    chosen = texts.filter(mask)
    return Kind(len(chosen), chosen[:EXAMPLES].to_pylist())


def _in_both_splits(manifest: pa.Table) -> Kind:
    training = manifest.filter(pc.and_(pc.equal(manifest["split"], "train"), pc.not_equal(manifest["sha256"], "")))
    validation = pc.equal(manifest["split"], "validation")
    shared = pc.is_in(manifest["sha256"], training["sha256"].combine_chunks())
    return _kind(manifest["path"], pc.and_(validation, shared))
