# SPDX-License-Identifier: Apache-2.0
"""From a data set's entry to its images."""

from __future__ import annotations

import os
import sys

import numpy as np

from dcae.benchmark.entries import DatasetEntry, ImageFilesEntry, PhotographsEntry, ScenesEntry
from dcae.data.dataset import SPLITS, ImageDataset, Split
from dcae.data.image_sizes import large_enough
from dcae.data.images import Crop, Images
from dcae.data.layouts.split_index import select
from dcae.data.photographs import Photographs
from dcae.data.scenes.dataset import Scenes


def open_dataset(entry: DatasetEntry, split: Split, resolution: int, crop: Crop = "centre") -> ImageDataset:
    """The images of one split of a data set.

    Args:
        entry: a file of ``config/datasets``. A relative ``path`` counts from the current directory.
        split: "train" or "validation".
        resolution: side in pixels.
        crop: for image files only; scenes are drawn to fit, and photographs have crops of their own.

    Raises:
        DatasetError: images are missing.
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if isinstance(entry, ScenesEntry | PhotographsEntry):
        dataset = Scenes if isinstance(entry, ScenesEntry) else Photographs
        images = entry.train_images if split == "train" else entry.validation_images
        return dataset(entry.seed, split, images, resolution)
    return _open_files(entry, split, resolution, crop)


def _open_files(entry: ImageFilesEntry, split: Split, resolution: int, crop: Crop) -> Images:
    found = select(entry, split)
    kept = large_enough(found, resolution, _processes()) if _discards(entry, split) else np.arange(len(found))
    if len(kept) < len(found):
        print(
            f"data set {entry.name}: {len(found) - len(kept):,} of {len(found):,} training images are smaller than "
            f"{resolution} px and left out",
            file=sys.stderr,
            flush=True,
        )
        found = found.take(kept)
    return Images(found, resolution, crop, transparency=entry.transparency)


def _discards(entry: DatasetEntry, split: Split) -> bool:
    """Validation images are all measured, as the paper's protocol does."""
    return split == "train" and getattr(entry, "smaller_images", None) == "discard"


def _processes() -> int:
    return len(os.sched_getaffinity(0))


# --- captions, which are embedded once for all resolutions ---


def open_captioned(entry: DatasetEntry, split: Split) -> ImageDataset:
    """Every image of a split with its caption, those that ``smaller_images: discard`` leaves out as well.

    Raises:
        DatasetError: images are missing.
    """
    whole = entry.model_copy(update={"smaller_images": "upsample"}) if _discards(entry, split) else entry
    return open_dataset(whole, split, resolution=64)  # captions are those of any resolution


def caption_rows(entry: DatasetEntry, split: Split, resolution: int) -> np.ndarray | None:
    """Which images of ``open_captioned`` are those of ``open_dataset``, int64 [N]; ``None``: all of them.

    Raises:
        DatasetError: images are missing.
    """
    return large_enough(select(entry, split), resolution, _processes()) if _discards(entry, split) else None
