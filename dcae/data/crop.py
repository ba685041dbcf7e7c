# SPDX-License-Identifier: Apache-2.0
"""Square crops of images of any size."""

from __future__ import annotations

import numpy as np
from PIL import Image


def adm_crop(image: Image.Image, resolution: int) -> Image.Image:
    """Return the centre crop of ADM, which DiT, DC-AE and most others use for training and for every metric.

    The image is halved while its short side is at least twice the resolution (box filter; an odd last row or column is
    scaled with the rest), then its short side is scaled to the resolution (bicubic, antialiased), and the centre is
    cropped. A smaller image is enlarged. Same as ``center_crop_arr`` of openai/guided-diffusion
    (``image_datasets.py``), including its rounding.

    Args:
        image: RGB, any size.
        resolution: side of the result in pixels.
    """
    while min(image.size) >= 2 * resolution:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    image = scale_short_side(image, resolution)
    return _cut(image, (image.width - resolution) // 2, (image.height - resolution) // 2, resolution)


def random_crop(image: Image.Image, resolution: int, rng: np.random.Generator) -> Image.Image:
    """Return a random crop at the image's own resolution; an image smaller than the crop is enlarged to fit."""
    if min(image.size) < resolution:
        image = scale_short_side(image, resolution)
    left, top = (int(rng.integers(side - resolution + 1)) for side in image.size)
    return _cut(image, left, top, resolution)


def scale_short_side(image: Image.Image, resolution: int) -> Image.Image:
    """Return the whole image with its short side scaled to the resolution (bicubic, antialiased)."""
    scale = resolution / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def _cut(image: Image.Image, left: int, top: int, resolution: int) -> Image.Image:
    return image.crop((left, top, left + resolution, top + resolution))


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return an RGB image as uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
