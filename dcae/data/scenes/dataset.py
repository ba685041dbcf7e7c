# SPDX-License-Identifier: Apache-2.0
"""The dataset of procedural scenes: labelled, captioned images at any resolution, without download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dcae.data.dataset import ImageDataset, Sample, fingerprint, generator
from dcae.data.scenes import drawings
from dcae.data.scenes.canvas import Canvas
from dcae.data.split_index import Split

VERSION = 2  # 2: drawn by Pillow
"""Part of the fingerprint; raise it whenever the scene of a given (seed, split, index) changes."""


class Scenes(ImageDataset):
    """Image ``index`` is a pure function of (seed, split, index) at any resolution; made for 64 to 2048 px.

    Classes take turns, so every run of images has them in equal numbers.

    Args:
        seed: of the scenes; not negative.
        split: the two splits have independent random numbers.
        images: number of images; a longer dataset starts with the images of a shorter one.
        resolution: side in pixels.
        classes: names of the classes, in the order of their labels; all of them by default.

    Raises:
        KeyError: no class of a name.
    """

    def __init__(self, seed: int, split: Split, images: int, resolution: int, classes: Sequence[str] | None = None):
        self.seed, self.split, self.images, self.resolution = seed, split, images, resolution
        by_name = {drawing.__name__: drawing for drawing in drawings.DRAWINGS}
        self.classes = list(classes or by_name)
        self._drawings = [by_name[name] for name in self.classes]
        chosen = {"classes": self.classes} if classes else {}
        self.fingerprint = fingerprint(
            kind="scenes", version=VERSION, seed=seed, split=split, images=images, resolution=resolution, **chosen
        )

    def __len__(self) -> int:
        return self.images

    def draw(self, index: int, resolution: int) -> tuple[Canvas, str]:
        """Draw a scene; return it and its caption."""
        return self._drawings[self.label(index)](generator(self.seed, self.split, index), resolution)

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        return self.draw(index, self.resolution)[0].to_uint8()

    def label(self, index: int) -> int:
        return index % len(self._drawings)

    def caption(self, index: int) -> str:
        return self.draw(index, resolution=8)[1]  # the caption is the same at every resolution

    def __getitem__(self, index: int) -> Sample:
        self.check_index(index)
        canvas, caption = self.draw(index, self.resolution)
        return Sample(torch.from_numpy(canvas.to_uint8()), self.label(index), caption)
