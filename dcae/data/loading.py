# SPDX-License-Identifier: Apache-2.0
"""From a data set's entry to its images."""

from __future__ import annotations

from pathlib import Path

from dcae.benchmark.entries import DatasetEntry, FolderEntry, PhotographsEntry, ScenesEntry
from dcae.data.dataset import SPLITS, ImageDataset, Split
from dcae.data.folder import Crop, Folder
from dcae.data.photographs import Photographs
from dcae.data.scenes import Scenes


def open_dataset(entry: DatasetEntry, split: Split, resolution: int, crop: Crop = "centre") -> ImageDataset:
    """The images of one split of a data set.

    Args:
        entry: a file of ``config/datasets``. A relative ``path`` of a folder counts from the current directory.
        split: "train" or "validation".
        resolution: side in pixels.
        crop: for folders only; scenes are drawn to fit, and photographs have crops of their own.

    Raises:
        DatasetError: images are missing.
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    match entry:
        case ScenesEntry() | PhotographsEntry():
            dataset = Scenes if isinstance(entry, ScenesEntry) else Photographs
            images = entry.train_images if split == "train" else entry.validation_images
            return dataset(entry.seed, split, images, resolution)
        case FolderEntry():
            sub_folder = entry.train if split == "train" else entry.validation
            return Folder(Path(entry.path).expanduser() / sub_folder, resolution, crop)
