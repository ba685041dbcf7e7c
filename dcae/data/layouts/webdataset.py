# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards of images: tar files in which ``key.jpg``, ``key.cls`` and ``key.txt`` are one sample.

A key ends at the first dot of the file name. ``.cls`` holds the label as a number, ``.txt`` the caption; other members
are ignored. Shards are sorted by name, samples by key.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.benchmark.entries import WebDatasetEntry
from dcae.data.split_index import NONE, Split, SplitIndex
from dcae.data.storage import cache
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import DatasetError, are_images, expanded


def index_webdataset(entry: WebDatasetEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index the samples of the shards of a split.

    Raises:
        DatasetError: there are no shards, two images have the same key, or a sample lacks its label.
    """
    path = expanded(entry.path)
    pattern = entry.train if split == "train" else entry.validation
    shards = sorted(path.glob(pattern))
    if not shards:
        raise DatasetError(f"{path.absolute() / pattern}: no such shards; put them there, or correct the entry")
    files = ArchiveFiles(shards, refresh=refresh)
    keys = _keys(files)
    members = np.flatnonzero(are_images(files.names))
    names: dict[str, int] = {}
    for member in members.tolist():
        if keys[member] in names:
            raise DatasetError(f"{files.where(member)}: a second image with the same key; rename it")
        names[keys[member]] = member
    return SplitIndex(
        files,
        members,
        pa.array(names, pa.string()),
        _labels(files, names, _of_ending(files, keys, ".cls"), entry.classes),
        [str(number) for number in range(entry.classes)],
        caption_members=_members_of(names, _of_ending(files, keys, ".txt")),
    )


def _keys(files: ArchiveFiles) -> list[str]:
    """Return ``shard/key`` of every member."""
    keys = []
    for name, shard in zip(files.names.to_pylist(), files.archive.tolist(), strict=True):
        folder, slash, file = name.rpartition("/")
        key = unicodedata.normalize("NFC", f"{folder}{slash}{file.partition('.')[0]}")
        keys.append(f"{files.archives[shard].name}/{key}")
    return keys


def _of_ending(files: ArchiveFiles, keys: list[str], ending: str) -> dict[str, int]:
    found = np.flatnonzero(pc.match_substring_regex(files.names, rf"\{ending}$", ignore_case=True))
    return {keys[number]: number for number in found.tolist()}


def _members_of(names: dict[str, int], found: dict[str, int]) -> np.ndarray | None:
    return np.array([found.get(key, NONE) for key in names], np.int64) if found else None


def _labels(files: ArchiveFiles, names: dict[str, int], found: dict[str, int], classes: int) -> np.ndarray:
    """Return the labels, int64 [N]; all 0 without classes."""
    if classes == 1:
        return np.zeros(len(names), np.int64)
    if without := [member for key, member in names.items() if key not in found]:
        raise DatasetError(
            f"{files.where(without[0])}: the entry says {classes} classes, but this sample has no .cls; "
            "add it, or set `classes` to 1"
        )

    def read() -> pa.Table:
        return pa.table({"label": [_label(files, found[key]) for key in names]})

    return cache.cached(f"labels of {files.place}", files.state, read)["label"].to_numpy()


def _label(files: ArchiveFiles, member: int) -> int:
    text = files.read(member).decode(errors="replace").strip()
    if not text.isdecimal():
        raise DatasetError(f"{files.where(member)}: {text!r} is no label; expected a number")
    return int(text)
