# SPDX-License-Identifier: Apache-2.0
"""Draw antialiased shapes with Pillow in unit coordinates, so one scene renders at any resolution.

x grows to the right and y downwards, both from 0 to 1; colours are RGB in [0, 1]. The drawing has ``SUPERSAMPLING``
times the resolution of the result, and is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcae.randomness import numpy_generator

SUPERSAMPLING = 4
CAPITALS = 0.69  # height of Pillow's default font's capitals, relative to the font size

Colour = Sequence[float] | np.ndarray
Point = Sequence[float] | np.ndarray


@lru_cache(maxsize=2)
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def text_width(text: str) -> float:
    """Return the width of a line of text in capitals of height 1."""
    return _font(1000).getlength(text) / (1000 * CAPITALS)


def regular_polygon(centre: Point, radius: float, sides: int, angle: float) -> np.ndarray:
    """Return the corners [n, 2] of a regular polygon; at angle 0 one of them points upwards."""
    angles = angle + 2 * np.pi * np.arange(sides) / sides
    return np.stack([centre[0] + radius * np.sin(angles), centre[1] - radius * np.cos(angles)], axis=1)


@lru_cache(maxsize=64)
def interpolation(resolution: int, cells: int) -> np.ndarray:
    """Return the weights of linear interpolation from a grid of cells to pixel centres, float32 [R, cells + 1]."""
    positions = (np.arange(resolution) + 0.5) / resolution * cells
    return np.maximum(0, 1 - abs(positions[:, None] - np.arange(cells + 1))).astype(np.float32)


def noise(rng: np.random.Generator, resolution: int, cells: int, dimensions: int) -> np.ndarray:
    """Return fractal value noise in about [-1, 1], float32 [R] or [R, R].

    Each octave has twice the cells and half the height of the one before. Octaves finer than two pixels are left out:
    a higher resolution shows more detail of the same noise.
    """
    total, height, seed = np.zeros((resolution,) * dimensions, np.float32), 0.5, int(rng.integers(2**32))
    while 2 * cells <= resolution:
        octave = numpy_generator(seed, cells)
        values = octave.random((cells + 1,) * dimensions, np.float32) * 2 - 1
        for _ in range(dimensions):  # an interpolation along the first axis, then the axes change places
            values = (interpolation(resolution, cells) @ values).T
        total, height, cells = total + height * values, height / 2, 2 * cells
    return total


class Canvas:
    """A square picture to draw on.

    Attributes:
        x, y: coordinates of the pixel centres, float32 [1, R] and [R, 1].
    """

    def __init__(self, resolution: int, colour: Colour):
        self.side = resolution * SUPERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side), _rgb(colour))
        self._draw = ImageDraw.Draw(self.image)
        centres = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
        self.x, self.y = centres[None, :], centres[:, None]

    def to_uint8(self) -> np.ndarray:
        """Return the picture as uint8 [3, R, R]."""
        return np.ascontiguousarray(np.asarray(self.image.reduce(SUPERSAMPLING)).transpose(2, 0, 1))

    def blend(self, colour: Colour, share: np.ndarray) -> None:
        """Mix a colour into the picture; share in [0, 1], of a shape that broadcasts to [R, R]."""
        levels = np.broadcast_to(share * 255 + 0.5, (self.y.size, self.x.size)).astype(np.uint8)
        mask = Image.fromarray(levels).resize(self.image.size, Image.Resampling.NEAREST)
        colour = Image.new("RGB", self.image.size, _rgb(colour))
        self.image.paste(Image.composite(colour, self.image, mask))  # faster than paste with a mask

    def ellipse(self, colour: Colour, centre: Point, radii: Point) -> None:
        """Draw a filled, upright ellipse."""
        (x, y), (across, down) = centre, radii
        self._draw.ellipse(self._box(x - across, y - down, x + across, y + down), _rgb(colour))

    def disc(self, colour: Colour, centre: Point, radius: float) -> None:
        """Draw a filled circle."""
        self.ellipse(colour, centre, (radius, radius))

    def ring(self, colour: Colour, centre: Point, radius: float, width: float) -> None:
        """Draw a circle with a pen of the given width."""
        (x, y), outer = centre, radius + width / 2
        box = self._box(x - outer, y - outer, x + outer, y + outer)
        self._draw.ellipse(box, outline=_rgb(colour), width=self._pen(width))

    def rectangles(self, colours: Colour, boxes: Sequence[Sequence[float]]) -> None:
        """Draw filled, upright rectangles (left, top, right, bottom) in one colour [3] or one each [n, 3]."""
        inks = np.broadcast_to(np.rint(np.asarray(colours) * 255).astype(int), (len(boxes), 3)).tolist()
        for ink, box in zip(inks, boxes, strict=True):
            self._draw.rectangle(self._box(*box), tuple(ink))

    def polygon(self, colour: Colour, corners: Sequence[Point] | np.ndarray) -> None:
        """Draw a filled polygon."""
        self._draw.polygon(self._points(corners), _rgb(colour))

    def line(self, colour: Colour, points: Sequence[Point] | np.ndarray, width: float) -> None:
        """Draw a line through the given points."""
        self._draw.line(self._points(points), _rgb(colour), self._pen(width), joint="curve")

    def text(self, colour: Colour, text: str, start: Point, height: float, centred: bool = False) -> None:
        """Write capitals or digits of the given height, from the bottom left corner ``start`` or centred above it."""
        font = _font(height * self.side / CAPITALS)
        x, y = np.asarray(start) * self.side
        self._draw.text((x, y), text, _rgb(colour), font, anchor="ms" if centred else "ls")

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
        """Return the first and last pixel columns and rows of a region, as Pillow expects them."""
        left, top, right, bottom = (round(edge * self.side) for edge in (left, top, right, bottom))
        return left, top, max(left, right - 1), max(top, bottom - 1)

    def _points(self, points: Sequence[Point] | np.ndarray) -> list[tuple[int, int]]:
        return [tuple(point) for point in np.rint(np.asarray(points) * self.side - 0.5).astype(int).tolist()]

    def _pen(self, width: float) -> int:
        return max(1, round(width * self.side))


def _rgb(colour: Colour) -> tuple[int, int, int]:
    return tuple(round(255 * float(channel)) for channel in colour)
