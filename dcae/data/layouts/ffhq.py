# SPDX-License-Identifier: Apache-2.0
"""FFHQ at 1024 px: ``images1024x1024/00000/00000.png``, as folders or as ``images1024x1024.zip``.

The official split is ``category`` in ``ffhq-dataset-v2.json``. Without that file it is by number, which is the same:
the first 60,000 images are for training, the last 10,000 for validation.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.benchmark.entries import FFHQEntry
from dcae.data.split_index import Split, SplitIndex, check_unique
from dcae.data.storage import cache
from dcae.data.storage.archives import open_files
from dcae.data.storage.files import DatasetError, expanded

IMAGES, METADATA = "images1024x1024", "ffhq-dataset-v2.json"
TRAINING_IMAGES = 60_000
CATEGORIES = {"train": "training", "validation": "validation"}


def index_ffhq(entry: FFHQEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index the images of a split, by number.

    Raises:
        DatasetError: images are missing, duplicated, or not in the metadata.
    """
    path = expanded(entry.path)
    zipped = path / f"{IMAGES}.zip"
    files = open_files(zipped if zipped.is_file() else path / IMAGES, refresh)
    numbers = pc.struct_field(pc.extract_regex(files.names, r"(?:^|/)(?P<number>\d{5})\.png$"), "number")
    members = np.flatnonzero(pc.is_valid(numbers))
    numbers = numbers.take(pa.array(members)).cast(pa.int64()).to_numpy()
    order = np.argsort(numbers, kind="stable")
    members, numbers = members[order], numbers[order]
    if not len(members):
        raise DatasetError(f"{files.root}: no images in it; expected 00000/00000.png and so on")
    check_unique([f"{number:05}.png" for number in numbers.tolist()], files.root)
    chosen = _in_split(path / METADATA, numbers, split)
    members, numbers = members[chosen], numbers[chosen]
    names = pa.array([f"{number - number % 1000:05}/{number:05}.png" for number in numbers.tolist()], pa.string())
    return SplitIndex(files, members, names, np.zeros(len(members), np.int64), ["ffhq"])


def _in_split(metadata: Path, numbers: np.ndarray, split: str) -> np.ndarray:
    """Return which images belong to a split, bool [N]."""
    if not metadata.is_file():
        return (numbers < TRAINING_IMAGES) == (split == "train")
    status = metadata.stat()
    # Cached, as the file has 255 MB.
    table = cache.cached(
        f"ffhq categories {metadata.resolve()}",
        [status.st_size, status.st_mtime_ns],
        lambda: _categories(metadata),
    )
    category = dict(zip(table["number"].to_pylist(), table["category"].to_pylist(), strict=True))
    if unknown := [number for number in numbers.tolist() if category.get(number) not in CATEGORIES.values()]:
        raise DatasetError(
            f"{metadata}: image {unknown[0]:05} is neither for training nor for validation; download the file again"
        )
    return np.array([category[number] == CATEGORIES[split] for number in numbers.tolist()])


def _categories(metadata: Path) -> pa.Table:
    try:
        content = json.loads(metadata.read_bytes())
        rows = [(int(number), item["category"]) for number, item in content.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{metadata}: is not FFHQ's metadata ({error!r}); download it again or remove it") from error
    return pa.table({"number": [number for number, _ in rows], "category": [category for _, category in rows]})
