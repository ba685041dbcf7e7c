# SPDX-License-Identifier: Apache-2.0
"""The interface of every image dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dcae.data.split_index import SPLITS, Split
from dcae.randomness import numpy_generator


class Sample(NamedTuple):
    """One image with its label and caption; ``caption`` is empty if the dataset has none."""

    image: Tensor  # uint8 [3, R, R], RGB
    label: int
    caption: str


class ImageDataset(Dataset[Sample]):
    """Square images of one resolution, by index.

    A subclass sets the attributes and implements ``__len__``, ``pixels``, ``label`` and ``caption``. Each is a pure
    function of its arguments, so any process may ask for any image in any order.

    Attributes:
        resolution: side R of every image, in pixels.
        classes: names of the classes, indexed by label.
        fingerprint: 16 hex digits that change if any image may have changed.
        captions_fingerprint: the same for the captions.
    """

    resolution: int
    classes: list[str]
    fingerprint: str

    @property
    def captions_fingerprint(self) -> str:
        return self.fingerprint

    def __len__(self) -> int:
        raise NotImplementedError

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        """Return image ``index`` as uint8 [3, R, R]. Only random crops differ between epochs."""
        raise NotImplementedError

    def label(self, index: int) -> int:
        raise NotImplementedError

    def caption(self, index: int) -> str:
        raise NotImplementedError

    def remarks(self, images: int) -> list[str]:
        """Return caveats on numbers measured on the first ``images`` images."""
        return []

    def __getitem__(self, index: int) -> Sample:
        self.check_index(index)
        return Sample(self.image(index), self.label(index), self.caption(index))

    def image(self, index: int, epoch: int = 0) -> Tensor:
        """Return the image alone, uint8 [3, R, R]."""
        self.check_index(index)
        return torch.from_numpy(self.pixels(index, epoch))

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return several images, uint8 [B, 3, R, R]."""
        return torch.stack([self.image(index) for index in indices])

    def check_index(self, index: int) -> None:
        # IndexError, as of a list, also ends ``for sample in dataset``.
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of a dataset of {len(self)} images")


def generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """Return the random generator of one image; any two (seed, split, index) give independent streams."""
    return numpy_generator(seed, SPLITS.index(split), index)


def fingerprint(**decisive: Any) -> str:
    """Return the sha256 (first 16 hex digits) of everything that decides the images of a dataset."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
