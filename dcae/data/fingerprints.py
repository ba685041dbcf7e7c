# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of a data set's images and captions, with which what was made of them is compared."""

from __future__ import annotations

import sys

from dcae.benchmark.entries import DatasetEntry, ImageFilesEntry
from dcae.data.dataset import Split
from dcae.data.loading import open_captioned, open_dataset
from dcae.data.storage.places import is_there


def images_fingerprint(entry: DatasetEntry, split: Split, resolution: int) -> str | None:
    """The fingerprint of a data set's images; ``None`` where nothing lies at its path, and only latents were brought.

    Raises:
        DatasetError: something lies there, but images are missing.
    """
    return open_dataset(entry, split, resolution).fingerprint if _is_here(entry) else None


def captions_fingerprint(entry: DatasetEntry, split: Split) -> str | None:
    """As ``images_fingerprint``, of the captions."""
    return open_captioned(entry, split).captions_fingerprint if _is_here(entry) else None


def _is_here(entry: DatasetEntry) -> bool:
    if not isinstance(entry, ImageFilesEntry) or is_there(entry.path):
        return True
    print(
        f"data set {entry.name}: nothing lies at {entry.path}, so what was made of its images cannot be compared with "
        "them, and is taken as it is",
        file=sys.stderr,
        flush=True,
    )
    return False
