# SPDX-License-Identifier: Apache-2.0
"""A user's pictures: every image file in a folder or zip file, without classes; what cannot be read is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcae.data.crop import adm_crop, to_pixels
from dcae.data.decoding import decode
from dcae.data.storage.archives import open_files
from dcae.data.storage.files import IMAGE_ENDINGS, DatasetError, Files, are_images

TRANSPARENCY = "white"  # what transparent pixels are laid over, as in a browser


@dataclass(frozen=True)
class Pictures:
    """The pictures that are compared, and those that are not.

    Attributes:
        folder: where they are.
        names: path of each below the folder.
        resolution: side of the centre crop (ADM's) in pixels.
        left_out: path of each that cannot be read, and why.
        enlarged: paths of those that are smaller than the crop, which enlarges them.
    """

    folder: Path
    names: list[str]
    resolution: int
    left_out: dict[str, str]
    enlarged: list[str]
    files: Files
    numbers: list[int]  # of the pictures among the files

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: range | list[int]) -> Tensor:
        """Crops of the given pictures, uint8 [B, 3, R, R]."""
        images = (_read(self.files, self.numbers[index]) for index in indices)
        return torch.stack([torch.from_numpy(to_pixels(adm_crop(image, self.resolution))) for image in images])


def _read(files: Files, number: int) -> Image.Image:
    return decode(files.read(number), files.where(number), TRANSPARENCY)


def find_pictures(folder: Path, resolution: int) -> Pictures:
    """Every picture in a folder, its sub-folders, or a zip file; each is decoded once, to know that it can be.

    Raises:
        DatasetError: no such folder, or no picture in it that can be read.
    """
    files = open_files(folder, refresh=True)
    names, numbers, left_out, enlarged = [], [], {}, []
    for number in np.flatnonzero(are_images(files.names)).tolist():
        name = files.name(number)
        try:
            image = _read(files, number)
        except DatasetError as error:
            left_out[name] = str(error).removeprefix(f"{files.where(number)}: ")
            continue
        names.append(name)
        numbers.append(number)
        if min(image.size) < resolution:
            enlarged.append(name)
    if not names:
        what = f"none of its {len(left_out)} images can be read" if left_out else "no images in it"
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise DatasetError(f"{folder.absolute()}: {what}; expected files ending in {', '.join(IMAGE_ENDINGS)}{reasons}")
    return Pictures(folder, names, resolution, left_out, enlarged, files, numbers)
