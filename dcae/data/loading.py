# SPDX-License-Identifier: Apache-2.0
"""Open the images or captions of a dataset's entry, and fingerprint them."""

from __future__ import annotations

import os
import sys

import numpy as np

from dcae.benchmark.entries import DatasetEntry, ImageFilesEntry, PhotographsEntry, ScenesEntry
from dcae.data.dataset import ImageDataset
from dcae.data.image_sizes import large_enough
from dcae.data.images import Crop, Images
from dcae.data.layouts.index import index_split
from dcae.data.photographs import Photographs
from dcae.data.scenes.dataset import Scenes
from dcae.data.split_index import SPLITS, Split
from dcae.data.storage.archives import is_there


def open_dataset(entry: DatasetEntry, split: Split, resolution: int, crop: Crop = "centre") -> ImageDataset:
    """Open the images of one split of a dataset.

    Args:
        entry: of ``config/datasets``; a relative ``path`` counts from the current directory.
        split: "train" or "validation".
        resolution: side in pixels.
        crop: for image files only; scenes are drawn at the resolution, photographs have their own crops.

    Raises:
        DatasetError: images are missing.
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if isinstance(entry, ScenesEntry | PhotographsEntry):
        images = entry.train_images if split == "train" else entry.validation_images
        if isinstance(entry, ScenesEntry):
            return Scenes(entry.seed, split, images, resolution, entry.classes)
        return Photographs(entry.seed, split, images, resolution)
    return _open_files(entry, split, resolution, crop)


def _open_files(entry: ImageFilesEntry, split: Split, resolution: int, crop: Crop) -> Images:
    samples = index_split(entry, split)
    kept = large_enough(samples, resolution, _processes()) if _discards(entry, split) else np.arange(len(samples))
    if len(kept) < len(samples):
        print(
            f"dataset {entry.name}: {len(samples) - len(kept):,} of {len(samples):,} training images are smaller than "
            f"{resolution} px and left out",
            file=sys.stderr,
            flush=True,
        )
        samples = samples.take(kept)
    return Images(samples, resolution, crop, transparency=entry.transparency, incomplete=entry.incomplete)


def _discards(entry: DatasetEntry, split: Split) -> bool:
    """Whether images are discarded; never in validation, where the paper's protocol measures all of them."""
    return split == "train" and getattr(entry, "smaller_images", None) == "discard"


def _processes() -> int:
    return len(os.sched_getaffinity(0))


# --- captions: embedded once, for all resolutions ---


def open_captioned(entry: DatasetEntry, split: Split) -> ImageDataset:
    """Open every image of a split with its caption, including those that ``smaller_images: discard`` drops.

    Raises:
        DatasetError: images are missing.
    """
    whole = entry.model_copy(update={"smaller_images": "upsample"}) if _discards(entry, split) else entry
    return open_dataset(whole, split, resolution=64)  # captions do not depend on it


def caption_rows(entry: DatasetEntry, split: Split, resolution: int) -> np.ndarray | None:
    """Return the indices in ``open_captioned`` of the images of ``open_dataset``, int64 [N]; ``None`` means all.

    Raises:
        DatasetError: images are missing.
    """
    return large_enough(index_split(entry, split), resolution, _processes()) if _discards(entry, split) else None


# --- fingerprints, to validate cached latents and captions ---


def images_fingerprint(entry: DatasetEntry, split: Split, resolution: int) -> str | None:
    """Return the fingerprint of a dataset's images; ``None`` if its path does not exist, as with copied latents.

    Raises:
        DatasetError: the path exists, but images are missing.
    """
    return open_dataset(entry, split, resolution).fingerprint if _is_here(entry) else None


def captions_fingerprint(entry: DatasetEntry, split: Split) -> str | None:
    """As ``images_fingerprint``, for the captions."""
    return open_captioned(entry, split).captions_fingerprint if _is_here(entry) else None


def _is_here(entry: DatasetEntry) -> bool:
    if not isinstance(entry, ImageFilesEntry) or is_there(entry.path):
        return True
    print(
        f"dataset {entry.name}: {entry.path} does not exist, so cached latents and captions of its images are used "
        "without comparing them",
        file=sys.stderr,
        flush=True,
    )
    return False
