# SPDX-License-Identifier: Apache-2.0
"""Crops of the photographs bundled with scikit-image; nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from dcae.data.crop import to_pixels
from dcae.data.dataset import ImageDataset, fingerprint, generator
from dcae.data.split_index import Split
from dcae.data.storage.files import DatasetError

VERSION = 1
"""Part of the fingerprint; raise it whenever the crop of a given (seed, split, index) changes."""


@dataclass(frozen=True)
class Photograph:
    """A picture in ``skimage/data``, with source and licence as stated in the documentation of ``skimage.data``."""

    file: str
    split: Split
    shows: str
    licence: str


PHOTOGRAPHS = (
    Photograph("astronaut.png", "train", "a photograph of an astronaut", "NASA; public domain"),
    Photograph("brick.png", "train", "a photograph of a brick wall", "CC0Textures, Bricks25; CC0"),
    Photograph("camera.png", "train", "a photograph of a man with a camera", "Lav Varshney; CC0"),
    Photograph("coins.png", "train", "a photograph of Greek coins", "Brooklyn Museum; no known copyright restrictions"),
    Photograph("grass.png", "train", "a photograph of grass", "linolafett on DeviantArt; CC0"),
    Photograph("hubble_deep_field.jpg", "train", "a photograph of distant galaxies", "NASA; public domain"),
    Photograph("ihc.png", "train", "a micrograph of stained tissue", "CMMI; no known copyright restrictions"),
    # Left and right show the same motorcycle, so they are in the same split.
    Photograph("motorcycle_left.png", "train", "a photograph of a motorcycle", "Middlebury 2014 stereo; none stated"),
    Photograph("motorcycle_right.png", "train", "a photograph of a motorcycle", "Middlebury 2014 stereo; none stated"),
    Photograph("page.png", "train", "a scan of a printed page", "none stated beyond the package's BSD-3-Clause"),
    Photograph("chelsea.png", "validation", "a photograph of a cat", "Stefan van der Walt; CC0"),
    Photograph(
        "coffee.png", "validation", "a photograph of a cup of coffee", "Rachel Michetti, Pikolo Espresso Bar; CC0"
    ),
    Photograph("gravel.png", "validation", "a photograph of gravel", "CC0Textures, Gravel04; CC0"),
    Photograph("retina.jpg", "validation", "a photograph of a retina", "Mikael Häggström; CC0"),
    Photograph("rocket.jpg", "validation", "a photograph of a rocket launch", "SpaceX; public domain"),
    Photograph("text.png", "validation", "a photograph of handwriting", "Wikipedia; no known copyright restrictions"),
)


def folder() -> Path:
    """Return the folder of the installed scikit-image's pictures."""
    package = importlib.util.find_spec("skimage")
    if package is None:
        raise DatasetError("photographs: scikit-image, which includes them, is not installed; run `make setup`")
    return Path(package.origin).parent / "data"


@lru_cache(maxsize=len(PHOTOGRAPHS))
def decoded(path: Path) -> Image.Image:
    """Return the picture in RGB, decoded once per process."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}); reinstall scikit-image 0.26 with `make setup`"
        ) from error


class Photographs(ImageDataset):
    """Square crops at any scale, from the whole short side of a picture down to its single pixels.

    Crop ``index`` is a pure function of (seed, split, index, resolution). It is enlarged only if the picture is smaller
    than the resolution; most have about 500 pixels a side. Pictures take turns.

    Args:
        seed: of the crops; not negative.
        split: training and validation pictures are disjoint.
        images: number of crops; a longer dataset starts with the images of a shorter one.
        resolution: side in pixels.
    """

    def __init__(self, seed: int, split: Split, images: int, resolution: int):
        self.seed, self.split, self.images, self.resolution = seed, split, images, resolution
        self.classes = [Path(photograph.file).stem for photograph in PHOTOGRAPHS]
        self.labels = [k for k, photograph in enumerate(PHOTOGRAPHS) if photograph.split == split]
        self.folder = folder()
        sizes = {PHOTOGRAPHS[label].file: self._file(label).stat().st_size for label in self.labels}
        self.fingerprint = fingerprint(
            kind="photographs", version=VERSION, seed=seed, images=images, resolution=resolution, files=sizes
        )

    def _file(self, label: int) -> Path:
        path = self.folder / PHOTOGRAPHS[label].file
        if not path.is_file():
            raise DatasetError(f"{path}: missing; reinstall scikit-image 0.26 with `make setup`")
        return path

    def __len__(self) -> int:
        return self.images

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        image, rng = decoded(self._file(self.label(index))), generator(self.seed, self.split, index)
        short = min(image.size)
        # Uniform in the logarithm: as many crops between 1/4 and 1/2 of the picture as between 1/2 and all of it.
        side = round(short * (min(self.resolution, short) / short) ** rng.random())
        left, top = (int(rng.integers(length - side + 1)) for length in image.size)
        crop = image.resize(
            (self.resolution, self.resolution),
            Image.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
            reducing_gap=3.0,
        )
        return to_pixels(crop)

    def label(self, index: int) -> int:
        return self.labels[index % len(self.labels)]

    def caption(self, index: int) -> str:
        return f"part of {PHOTOGRAPHS[self.label(index)].shows}"
