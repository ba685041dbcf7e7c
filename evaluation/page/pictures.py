# SPDX-License-Identifier: Apache-2.0
"""Sample images that a page holds itself, as many as its size allows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
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
    """Images in a row.

    Attributes:
        name, remark: for readers.
        images: data URLs.
        result: that the name links to.
        values: of each image, for readers: measured, or the prompt of a sample.
    """

    name: str
    remark: str
    images: list[str]
    result: Result | None = None
    values: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Gallery:
    """Strips of images: the originals and each autoencoder's, or a strip for each picture.

    Attributes:
        title: for readers.
        side: pixels of an image.
        strips: of reconstructions, the originals first.
        note: on images that are not shown.
        columns: names of the images in a strip, where each strip is a picture: the original, then autoencoders.
    """

    title: str
    side: int
    strips: list[Strip]
    note: str = ""
    columns: list[str] = field(default_factory=list)


def data_url(encoded: bytes, kind: str = "png") -> str:
    """Return an image file as an address."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def _png(tile: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, format="PNG")
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


def _affordable(rows: Sequence[np.ndarray], size: int) -> tuple[list[list[str]], str]:
    """Return the first images of each row as data URLs, as many as fit into bytes of PNG, and a note on the others."""
    encoded = [[_png(tile) for tile in row] for row in rows]
    found = min(map(len, rows), default=0)
    sizes = np.cumsum([sum(len(row[i]) for row in encoded) for i in range(found)])
    count = int(np.searchsorted(sizes, size, side="right"))
    note = f"{count} of {found} images, so that the page stays small; all are in the folder samples."
    return [[data_url(each) for each in row[:count]] for row in encoded], note if count < found else ""


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
        (originals, *others), note = _affordable(rows, RECONSTRUCTION_BYTES // len(places))
        strips = [Strip("original", "", originals)]
        strips += [
            Strip(_name(each.cell), _psnr(each), row, each) for (each, _), row in zip(found, others, strict=True)
        ]
        galleries.append(Gallery(place, found[0][0].cell.resolution, strips if originals else [], note))
    return galleries


def samples(results: Iterable[Result], grid_of: GridOf, problems: list[str]) -> list[Gallery]:
    """Return the samples of each diffusion model on each autoencoder, without and with guidance; see above."""
    found = _grids((result for result in results if result.kind == "generation"), grid_of, problems)
    encoded, note = _affordable([row for _, grid in found for row in grid], GENERATION_BYTES)
    rows = iter(encoded)
    galleries = []
    for result, grid in found:
        cell, strips = result.cell, []
        for how, row in zip(("without", "with"), islice(rows, len(grid)), strict=False):
            value = _value("FID", result.values.get(f"fid_{how}_guidance"))
            strips += [Strip(f"{how} guidance", value, row, values=result.record.prompts[: len(row)])] if row else []
        galleries.append(Gallery(f"{cell.models}, {cell.place}", cell.resolution, strips, note))
    return galleries


def _name(cell: TableCell) -> str:
    return f"{cell.autoencoder} (f{cell.spatial_compression}c{cell.latent_channels})"


def _value(title: str, value: Value | None, unit: str = "") -> str:
    random = ", random features" if value and value.random_features else ""
    return f"{title} {value.value:.1f}{unit}{random}" if value else ""


def _psnr(result: Result) -> str:
    return _value("PSNR of all images", result.values.get("psnr"), " dB").replace("inf", "∞")
