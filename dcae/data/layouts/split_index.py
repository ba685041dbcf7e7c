# SPDX-License-Identifier: Apache-2.0
"""From an entry to the image files of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dcae.benchmark.entries import (
    DatasetEntry,
    FFHQEntry,
    FolderEntry,
    ImageNetEntry,
    MapillaryVistasEntry,
    MJHQEntry,
    SA1BEntry,
    WebDatasetEntry,
)
from dcae.data.errors import DatasetError
from dcae.data.layouts.any_folder import select_folder
from dcae.data.layouts.ffhq import select_ffhq
from dcae.data.layouts.imagenet import select_imagenet
from dcae.data.layouts.mapillary_vistas import select_mapillary_vistas
from dcae.data.layouts.mjhq import select_mjhq
from dcae.data.layouts.sa_1b import select_sa_1b
from dcae.data.layouts.webdataset import select_webdataset
from dcae.data.selection import Selection


def select(entry: DatasetEntry, split: Literal["train", "validation"], refresh: bool = False) -> Selection:
    """The image files of a split, in the official order.

    Args:
        entry: of a kind that has files; a relative ``path`` counts from the current directory.
        split: of the data set.
        refresh: list the files anew, rather than trusting that nothing was rewritten in place.

    Raises:
        DatasetError: files are missing, of the wrong number, or do not belong together.
    """
    match entry:
        case FolderEntry():
            folder = Path(entry.path) / (entry.train if split == "train" else entry.validation)
            selection = select_folder(folder.expanduser(), refresh)
        case ImageNetEntry():
            selection = select_imagenet(entry, split, refresh)
        case FFHQEntry():
            selection = select_ffhq(entry, split, refresh)
        case MapillaryVistasEntry():
            selection = select_mapillary_vistas(entry, split, refresh)
        case MJHQEntry():
            selection = select_mjhq(entry, split, refresh)
        case SA1BEntry():
            selection = select_sa_1b(entry, split, refresh)
        case WebDatasetEntry():
            selection = select_webdataset(entry, split, refresh)
        case _:
            raise DatasetError(f"data set {entry.name} is of kind {entry.kind}: it has no image files")
    _check_expected(entry, split, selection)
    return selection


def _check_expected(entry: DatasetEntry, split: str, selection: Selection) -> None:
    expected = entry.expected_images
    count = getattr(expected, split) if expected else None
    if count is not None and len(selection) != count:
        raise DatasetError(
            f"data set {entry.name}: {len(selection):,} {split} images in {selection.files.root}, expected {count:,}; "
            "get what is missing, or, if a part is meant, copy the entry and correct `expected_images`"
        )
