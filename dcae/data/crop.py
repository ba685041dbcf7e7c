# SPDX-License-Identifier: Apache-2.0
"""Square crops of images of any size."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Of a longer image, only the crop is scaled: the whole would take memory without bound. Pillow then scales columns
# before rows, which changes the rounding between the two.
LONG = 16


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
    size = _scaled_size(image, resolution)
    return _scaled_cut(image, size, (size[0] - resolution) // 2, (size[1] - resolution) // 2, resolution)


def random_crop(image: Image.Image, resolution: int, rng: np.random.Generator) -> Image.Image:
    """Return a random crop at the image's own resolution; an image smaller than the crop is enlarged to fit."""
    size = _scaled_size(image, resolution) if min(image.size) < resolution else image.size
    left, top = (int(rng.integers(side - resolution + 1)) for side in size)
    return _scaled_cut(image, size, left, top, resolution)


def _scaled_size(image: Image.Image, resolution: int) -> tuple[int, int]:
    """Return the size of the whole image with its short side scaled to the resolution."""
    scale = resolution / min(image.size)
    return round(image.width * scale), round(image.height * scale)


def _scaled_cut(image: Image.Image, size: tuple[int, int], left: int, top: int, resolution: int) -> Image.Image:
    """Scale the whole image to a size (bicubic, antialiased), and return a square of it."""
    if size == image.size or max(size) <= LONG * resolution:
        whole = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        return whole.crop((left, top, left + resolution, top + resolution))
    x, y = image.width / size[0], image.height / size[1]
    box = (left * x, top * y, min((left + resolution) * x, image.width), min((top + resolution) * y, image.height))
    return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return an RGB image as uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
