# SPDX-License-Identifier: Apache-2.0
"""Sample images as strips of tiles that a page holds itself, as many as its size allows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dcae.benchmark.record import Value
from evaluation.quality.image_grid import read_grid
from evaluation.tables.rows import Result, TableCell

GridOf = Callable[[Result], Path]
"""Path of a result's PNG grid of samples."""

RECONSTRUCTION_BYTES, GENERATION_BYTES = 4_000_000, 2_500_000  # of PNG, so that a page stays under 10 MB


@dataclass(frozen=True)
class Strip:
    """Images in a row: name, remark and link target for readers, and a data URL."""

    name: str
    remark: str
    image: str
    result: Result | None = None


@dataclass(frozen=True)
class Gallery:
    """Strips of the same images.

    Attributes:
        title: for readers.
        side: pixels of an image.
        shown, found: images of each strip on the page, and in the files of samples.
        strips: of reconstructions, the originals first.
    """

    title: str
    side: int
    shown: int
    found: int
    strips: list[Strip]


def data_url(tiles: np.ndarray) -> str:
    """Return uint8 tiles [K, R, R, 3] side by side as a PNG in a data URL."""
    return f"data:image/png;base64,{base64.b64encode(_png(tiles)).decode()}"


def _png(tiles: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(list(tiles), axis=1)).save(buffer, format="PNG")
    return buffer.getvalue()


def _grids(results: Iterable[Result], grid_of: GridOf, problems: list[str]) -> list[tuple[Result, np.ndarray]]:
    found = []
    for result in results:
        path = grid_of(result)
        if path.is_file():
            try:
                found.append((result, read_grid(path, result.cell.resolution)))
            except (OSError, ValueError) as error:
                problems.append(f"{path} cannot be read ({error}); remove it and the record of its cell, and run again")
    return found


def _affordable(rows: Sequence[np.ndarray], size: int) -> int:
    """Return how many images of each row fit into a size in bytes."""
    count = min(map(len, rows))
    needed = sum(len(_png(row[:count])) for row in rows)
    return min(count, int(count * size / needed))


def reconstructions(results: Iterable[Result], grid_of: GridOf, problems: list[str]) -> list[Gallery]:
    """Return originals and reconstructions of each dataset and resolution, f ascending, controls last.

    Args:
        results: of any kind.
        grid_of: returns the path of a result's PNG grid, which ``evaluation.quality.image_grid`` wrote.
        problems: receives a line for each file that cannot be read.
    """
    places: dict[str, list[tuple[Result, np.ndarray]]] = {}
    measured = [result for result in results if result.kind == "reconstruction"]
    for result, grid in _grids(measured, grid_of, problems):
        places.setdefault(result.cell.place, []).append((result, grid))
    galleries = []
    for place, found in places.items():
        found.sort(key=lambda each: (each[0].cell.group == "controls", each[0].cell.spatial_compression))
        rows = [found[0][1][0], *(grid[1] for _, grid in found)]
        count = _affordable(rows, RECONSTRUCTION_BYTES // len(places))
        strips = []
        if count:
            strips = [Strip("original", "", data_url(rows[0][:count]))]
            for (result, _), row in zip(found, rows[1:], strict=True):
                strips.append(Strip(_name(result.cell), _psnr(result), data_url(row[:count]), result))
        galleries.append(Gallery(place, found[0][0].cell.resolution, count, min(map(len, rows)), strips))
    return galleries


def samples(results: Iterable[Result], grid_of: GridOf, problems: list[str]) -> list[Gallery]:
    """Return the samples of each diffusion model on each autoencoder, without and with guidance; see above."""
    found = _grids((result for result in results if result.kind == "generation"), grid_of, problems)
    affordable = _affordable([row for _, grid in found for row in grid], GENERATION_BYTES) if found else 0
    galleries = []
    for result, grid in found:
        count = min(affordable, grid.shape[1])
        strips = [
            Strip(f"{how} guidance", _value("FID", result.values.get(f"fid_{how}_guidance")), data_url(row[:count]))
            for how, row in zip(("without", "with"), grid, strict=False)
            if count
        ]
        cell = result.cell
        galleries.append(Gallery(f"{cell.models}, {cell.place}", cell.resolution, count, grid.shape[1], strips))
    return galleries


def _name(cell: TableCell) -> str:
    return f"{cell.autoencoder} (f{cell.spatial_compression}c{cell.latent_channels})"


def _value(title: str, value: Value | None, unit: str = "") -> str:
    random = ", random features" if value and value.random_features else ""
    return f"{title} {value.value:.1f}{unit}{random}" if value else ""


def _psnr(result: Result) -> str:
    return _value("PSNR of all images", result.values.get("psnr"), " dB").replace("inf", "∞")
