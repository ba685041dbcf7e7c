# SPDX-License-Identifier: Apache-2.0
"""Square crops of image files, from any layout."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Literal

import numpy as np

from dcae.data.crop import adm_crop, random_crop, to_pixels
from dcae.data.dataset import ImageDataset, fingerprint
from dcae.data.decoding import Incomplete, Transparency, decode
from dcae.data.image_sizes import image_sizes, smaller
from dcae.data.split_index import SplitIndex
from dcae.data.storage.files import state_of
from dcae.randomness import numpy_generator

Crop = Literal["centre", "random"]


class Images(ImageDataset):
    """Square crops of the image files of one split.

    Args:
        samples: of image files (``dcae.data.layouts``).
        resolution: side in pixels.
        crop: "centre" is the ADM crop; "random" is a crop at the image's own resolution, a new one each epoch.
        seed: of the random crops.
        transparency: how to treat transparent pixels (``dcae.data.decoding``).
        incomplete: how to treat JPEG files without an end marker.

    Raises:
        DatasetError: as ``decode``, when an image is read.
    """

    def __init__(
        self,
        samples: SplitIndex,
        resolution: int,
        crop: Crop = "centre",
        seed: int = 0,
        transparency: Transparency = "refuse",
        incomplete: Incomplete = "refuse",
    ):
        self.samples, self.resolution, self.crop, self.seed = samples, resolution, crop, seed
        self.transparency, self.incomplete = transparency, incomplete
        self.classes = samples.classes

    @cached_property
    def fingerprint(self) -> str:
        """Hash official names, labels and sizes of the files.

        Hashing the content of a large dataset would take hours; official names are equal in every layout.
        """
        return fingerprint(
            kind="images",
            files=state_of(self.samples.names, self.samples.sizes),
            labels=state_of(self.samples.names, self.samples.labels),
            resolution=self.resolution,
            crop=self.crop,
            seed=self.seed if self.crop == "random" else None,
            transparency=self.transparency,
        )

    @property
    def captions_fingerprint(self) -> str:
        return fingerprint(images=state_of(self.samples.names, self.samples.sizes), text=self.samples.text_state)

    def __len__(self) -> int:
        return len(self.samples)

    def enlarged(self, images: int | None = None) -> int:
        """Return how many of the first ``images`` images (default: all) are smaller than the crop and get enlarged."""
        samples = self.samples
        if images is not None and images < len(samples):
            samples = samples.take(np.arange(images))
        sizes = image_sizes(samples, processes=len(os.sched_getaffinity(0)))
        return int(smaller(sizes, self.resolution).sum())

    def remarks(self, images: int) -> list[str]:
        count, enlarged = min(images, len(self)), self.enlarged(images)
        if not enlarged:
            return []
        return [
            f"{enlarged:,} of {count:,} images ({enlarged / count:.1%}) are smaller than the crop and were enlarged"
        ]

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        image = decode(self.samples.read(index), self.samples.where(index), self.transparency, self.incomplete)
        if self.crop == "centre":
            return to_pixels(adm_crop(image, self.resolution))
        return to_pixels(random_crop(image, self.resolution, numpy_generator(self.seed, index, epoch)))

    def label(self, index: int) -> int:
        return int(self.samples.labels[index])

    def caption(self, index: int) -> str:
        return self.samples.caption(index)
