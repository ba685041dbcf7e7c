# SPDX-License-Identifier: Apache-2.0
"""A user's pictures as a dataset: every image file in a folder or zip file; unreadable ones are left out and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dcae.data.crop import adm_crop, to_pixels
from dcae.data.dataset import ImageDataset, fingerprint
from dcae.data.decoding import decode
from dcae.data.storage.archives import open_files
from dcae.data.storage.files import IMAGE_ENDINGS, DatasetError, Files, are_images

TRANSPARENCY = "white"  # behind transparent pixels, as in a browser


class Pictures(ImageDataset):
    """The pictures that are compared, without classes and captions.

    Attributes:
        folder: where they are.
        names: path of each below the folder.
        left_out: path of each that cannot be read, with the reason.
        enlarged: paths of those that are smaller than the crop, which enlarges them.
    """

    classes = ("picture",)

    def __init__(self, folder: Path, resolution: int, files: Files):
        self.folder, self.resolution, self._files = folder, resolution, files
        self.names: list[str] = []
        self.left_out: dict[str, str] = {}
        self.enlarged: list[str] = []
        self._numbers: list[int] = []  # of the pictures among the files
        for number in np.flatnonzero(are_images(files.names)).tolist():
            name = files.name(number)
            try:
                image = self._read(number)
            except DatasetError as error:
                self.left_out[name] = str(error).removeprefix(f"{files.where(number)}: ")
                continue
            self.names.append(name)
            self._numbers.append(number)
            if min(image.size) < resolution:
                self.enlarged.append(name)
        self.fingerprint = fingerprint(files=files.state, resolution=resolution)

    def _read(self, number: int) -> Image.Image:
        return decode(self._files.read(number), self._files.where(number), TRANSPARENCY)

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        return to_pixels(adm_crop(self._read(self._numbers[index]), self.resolution))

    def label(self, index: int) -> int:
        return 0

    def caption(self, index: int) -> str:
        return ""


def find_pictures(folder: Path, resolution: int) -> Pictures:
    """Open every picture in a folder, its sub-folders, or a zip file; each is decoded once, to know that it can be.

    Raises:
        DatasetError: no such folder, or no picture in it that can be read.
    """
    found = Pictures(folder, resolution, open_files(folder, refresh=True))
    if not len(found):
        reason = f"none of its {len(found.left_out)} images can be read" if found.left_out else "no images in it"
        examples = "".join(f"\n  {name}: {error}" for name, error in list(found.left_out.items())[:3])
        endings = ", ".join(IMAGE_ENDINGS)
        raise DatasetError(f"{folder.absolute()}: {reason}; expected files ending in {endings}{examples}")
    return found
