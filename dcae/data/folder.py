# SPDX-License-Identifier: Apache-2.0
"""Any folder of images: ImageNet, FFHQ, Mapillary Vistas, or a user's own."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dcae.data.crop import adm_crop, random_crop, to_pixels
from dcae.data.dataset import DatasetError, ImageDataset, fingerprint

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

Crop = Literal["centre", "random"]


def images_below(folder: Path) -> list[str]:
    """Paths of all images in a folder and its sub-folders, relative to it, in torchvision's ImageFolder order."""
    found = []
    for parent, _, names in sorted(os.walk(folder, followlinks=True)):
        images = sorted(name for name in names if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith("."))
        found += [os.path.relpath(os.path.join(parent, name), folder) for name in images]
    return found


def list_classes(folder: Path) -> dict[str, list[str]]:
    """Class name to its images, as paths relative to the folder; a folder without sub-folders is one class.

    Raises:
        DatasetError: the folder is missing or holds no images, or a class is empty, or images lie beside the classes.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder.absolute()}: no such folder; put the images there, or correct `path` in the entry")
    children = [child for child in sorted(folder.iterdir()) if not child.name.startswith(".")]
    names = [child.name for child in children if child.is_dir()]
    loose = [child.name for child in children if child.is_file() and child.name.lower().endswith(IMAGE_ENDINGS)]
    if not names and not loose:
        raise DatasetError(f"{folder.absolute()}: no images in it; expected files ending in {', '.join(IMAGE_ENDINGS)}")
    if not names:
        return {folder.name: loose}
    if loose:
        raise DatasetError(
            f"{folder.absolute() / loose[0]}: lies beside sub-folders, which are classes; move it into one of them"
        )
    classes = {name: [os.path.join(name, image) for image in images_below(folder / name)] for name in names}
    for name, images in classes.items():
        if not images:
            raise DatasetError(f"{folder.absolute() / name}: a class without images; fill the folder or remove it")
    return classes


def read_image(path: Path) -> Image.Image:
    """An image file in RGB, as its pixels are stored: an orientation in its EXIF data is not applied.

    Raises:
        DatasetError: the file is missing or damaged, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as image:
            mode, converted = image.mode, image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise DatasetError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error
    if mode == "F" or mode.startswith("I"):  # Pillow would cut off everything above 255
        raise DatasetError(f"{path}: has more than 8 bits per channel (mode {mode}); convert it to 8 bits")
    return converted


class Folder(ImageDataset):
    """Square crops of the images in one folder.

    Sub-folders are classes, if there are any. The caption of ``a/b.jpg`` is the text in ``a/b.txt``, and empty if there
    is no such file.

    Args:
        folder: where the images of one split are.
        resolution: side in pixels.
        crop: "centre" is the ADM crop; "random" cuts out a part at the image's own resolution, another one each epoch.
        seed: of the random crops.

    Raises:
        DatasetError: as ``list_classes`` at once, as ``read_image`` when an image is asked for.
    """

    def __init__(self, folder: Path | str, resolution: int, crop: Crop = "centre", seed: int = 0):
        self.folder, self.resolution, self.crop, self.seed = Path(folder), resolution, crop, seed
        classes = list_classes(self.folder)
        self.classes = list(classes)
        self.files = [image for images in classes.values() for image in images]
        self.labels = np.repeat(np.arange(len(classes)), [len(images) for images in classes.values()])

    @cached_property
    def fingerprint(self) -> str:
        """Names and sizes of the files stand for their content: reading a large data set would take hours."""
        sizes = [(file, (self.folder / file).stat().st_size) for file in self.files]
        seed = self.seed if self.crop == "random" else None
        return fingerprint(kind="folder", files=sizes, resolution=self.resolution, crop=self.crop, seed=seed)

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, index: int, epoch: int = 0) -> np.ndarray:
        image = read_image(self.folder / self.files[index])
        if self.crop == "centre":
            return to_pixels(adm_crop(image, self.resolution))
        return to_pixels(random_crop(image, self.resolution, np.random.default_rng([self.seed, index, epoch])))

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def caption(self, index: int) -> str:
        side_file = (self.folder / self.files[index]).with_suffix(".txt")
        return side_file.read_text(encoding="utf-8").strip() if side_file.is_file() else ""
