# SPDX-License-Identifier: Apache-2.0
"""Index the image files of an entry's split, whatever its layout."""

from __future__ import annotations

from pathlib import Path

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
from dcae.data.layouts.any_folder import index_folder, index_mapillary_vistas
from dcae.data.layouts.ffhq import index_ffhq
from dcae.data.layouts.imagenet import index_imagenet
from dcae.data.layouts.mjhq import index_mjhq
from dcae.data.layouts.sa_1b import index_sa_1b
from dcae.data.layouts.webdataset import index_webdataset
from dcae.data.split_index import Split, SplitIndex
from dcae.data.storage.files import DatasetError, expanded


def index_split(entry: DatasetEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Return the image files of a split, in the official order.

    Args:
        entry: of a kind that has files; a relative ``path`` counts from the current directory.
        split: "train" or "validation".
        refresh: list the files again instead of trusting the cached listing.

    Raises:
        DatasetError: files are missing, their number is wrong, or they do not belong together.
    """
    match entry:
        case FolderEntry():
            folder = Path(entry.path) / (entry.train if split == "train" else entry.validation)
            samples = index_folder(expanded(folder), refresh)
        case ImageNetEntry():
            samples = index_imagenet(entry, split, refresh)
        case FFHQEntry():
            samples = index_ffhq(entry, split, refresh)
        case MapillaryVistasEntry():
            samples = index_mapillary_vistas(entry, split, refresh)
        case MJHQEntry():
            samples = index_mjhq(entry, split, refresh)
        case SA1BEntry():
            samples = index_sa_1b(entry, split, refresh)
        case WebDatasetEntry():
            samples = index_webdataset(entry, split, refresh)
        case _:
            raise DatasetError(f"dataset {entry.name} is of kind {entry.kind}: it has no image files")
    _check_expected(entry, split, samples)
    return samples


def _check_expected(entry: DatasetEntry, split: str, samples: SplitIndex) -> None:
    expected = entry.expected_images
    count = getattr(expected, split) if expected else None
    if count is not None and len(samples) != count:
        raise DatasetError(
            f"dataset {entry.name}: {len(samples):,} {split} images in {samples.files.root}, expected {count:,}; "
            "get the missing images, or, to use a part, copy the entry and correct `expected_images`"
        )
