# SPDX-License-Identifier: Apache-2.0
"""Sample images of a cell as one PNG: a grid of square tiles without gaps, which the sample figures read.

Imports no torch, which figures do not need.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dcae.files import replacing


class GridError(ValueError):
    """A PNG is not a grid that ``write_grid`` wrote."""


def write_grid(tiles: np.ndarray, path: Path) -> None:
    """Write uint8 tiles [rows, columns, 3, R, R] as one PNG of R x columns by R x rows pixels, by a rename."""
    rows, columns, _, side, _ = tiles.shape
    pixels = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3)  # [rows, R, columns, R, 3] before
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def read_grid(path: Path, resolution: int) -> np.ndarray:
    """Read the tiles of a PNG that ``write_grid`` wrote, uint8 [rows, columns, R, R, 3].

    Raises:
        GridError: the file is damaged, or its size is no multiple of the tiles'.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # SyntaxError: a damaged chunk of a PNG
        raise GridError(f"{path}: damaged ({error}); delete it, and the same run makes it again") from error
    height, width, _ = pixels.shape
    if height % resolution or width % resolution:
        raise GridError(f"{path} has {width} x {height} pixels, no multiple of tiles of {resolution} pixels")
    tiles = pixels.reshape(height // resolution, resolution, width // resolution, resolution, 3)
    return tiles.transpose(0, 2, 1, 3, 4)
