# SPDX-License-Identifier: Apache-2.0
"""Square crops of image files, wherever the files lie."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from dcae.data.crop import adm_crop, random_crop, to_pixels
from dcae.data.dataset import ImageDataset, fingerprint
from dcae.data.decoding import Transparency, decode
from dcae.data.image_sizes import image_sizes, smaller
from dcae.data.layouts.any_folder import select_folder
from dcae.data.selection import Selection
from dcae.data.storage.files import state_of

Crop = Literal["centre", "random"]


class Images(ImageDataset):
    """Square crops of the image files of one split.

    Args:
        selection: of image files (``dcae.data.layouts``).
        resolution: side in pixels.
        crop: "centre" is the ADM crop; "random" cuts out a part at the image's own resolution, another one each epoch.
        seed: of the random crops.
        transparency: what becomes of transparent pixels (``dcae.data.decoding``).

    Raises:
        DatasetError: as ``decode``, when an image is asked for.
    """

    def __init__(
        self,
        selection: Selection,
        resolution: int,
        crop: Crop = "centre",
        seed: int = 0,
        transparency: Transparency = "refuse",
    ):
        self.selection, self.resolution, self.crop, self.seed = selection, resolution, crop, seed
        self.transparency = transparency
        self.classes = selection.classes

    @cached_property
    def fingerprint(self) -> str:
        """Names, labels and sizes of the files stand for their content: reading a large data set would take hours.

        Official names, so that a data set is the same in each of its layouts.
        """
        return fingerprint(
            kind="images",
            files=state_of(self.selection.names, self.selection.sizes),
            labels=state_of(self.selection.names, self.selection.labels),
            resolution=self.resolution,
            crop=self.crop,
            seed=self.seed if self.crop == "random" else None,
            transparency=self.transparency,
        )

    @property
    def captions_fingerprint(self) -> str:
        return fingerprint(images=state_of(self.selection.names, self.selection.sizes), text=self.selection.text_state)

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def files(self) -> list[str]:
        """Official name of every image."""
        return self.selection.names.to_pylist()

    def enlarged(self, images: int | None = None) -> int:
        """How many of the first ``images`` images (default: all) are smaller than the crop, which enlarges them."""
        selection = self.selection
        if images is not None and images < len(selection):
            selection = selection.take(np.arange(images))
        sizes = image_sizes(selection, processes=len(os.sched_getaffinity(0)))
        return int(smaller(sizes, self.resolution).sum())

    def remarks(self, images: int) -> list[str]:
        count, enlarged = min(images, len(self)), self.enlarged(images)
        if not enlarged:
            return []
        return [
            f"{enlarged:,} of {count:,} images ({enlarged / count:.1%}) are smaller than the crop and were enlarged"
        ]

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        image = decode(self.selection.read(index), self.selection.where(index), self.transparency)
        if self.crop == "centre":
            return to_pixels(adm_crop(image, self.resolution))
        return to_pixels(random_crop(image, self.resolution, np.random.default_rng([self.seed, index, epoch])))

    def label(self, index: int) -> int:
        return int(self.selection.labels[index])

    def caption(self, index: int) -> str:
        return self.selection.caption(index)


class Folder(Images):
    """All images in a folder, or in a zip file; sub-folders are classes, and ``a/b.txt`` is the caption of ``a/b.jpg``.

    Raises:
        DatasetError: as ``select_folder``.
    """

    def __init__(
        self,
        folder: Path | str,
        resolution: int,
        crop: Crop = "centre",
        seed: int = 0,
        transparency: Transparency = "refuse",
    ):
        super().__init__(select_folder(Path(folder)), resolution, crop, seed, transparency)
