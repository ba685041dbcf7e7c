# SPDX-License-Identifier: Apache-2.0
"""Draws antialiased shapes in unit coordinates, so that one scene renders at any resolution.

A shape is a signed distance, negative inside; the share of a pixel that it covers follows from the distance at the
pixel's centre. Rectangles are exact: the overlap of a pixel with a rectangle is a product of two lengths. x grows to
the right and y downwards, both from 0 to 1; colours are RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from dcae.data.scenes.font import ADVANCE, GLYPH_WIDTH, GLYPHS

Colour = Sequence[float] | np.ndarray
Point = tuple[float, float]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x [1, w], y [h, 1] -> [h, w]


def disc(centre: Point, radius: float) -> Distance:
    """Distance to a disc."""
    return lambda x, y: np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2) - radius


def ring(centre: Point, radius: float, width: float) -> Distance:
    """Distance to a circle drawn with a pen of the given width."""
    return lambda x, y: abs(disc(centre, radius)(x, y)) - width / 2


def ellipse(centre: Point, radii: Point) -> Distance:
    """Distance to an upright ellipse, exact to first order at its edge."""

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        across, down = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
        level = np.sqrt(across**2 + down**2)
        slope = np.sqrt((across / radii[0]) ** 2 + (down / radii[1]) ** 2)
        return level * (level - 1) / np.maximum(slope, 1e-6)

    return distance


def polygon(corners: np.ndarray) -> Distance:
    """Distance to a convex polygon with corners [n, 2] in clockwise order as seen."""
    corners = np.asarray(corners, np.float32)
    along = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    offsets = (normals * corners).sum(axis=1)
    sides = [column[:, None, None] for column in (*normals.T, offsets)]  # 3 times [n, 1, 1]
    return lambda x, y: (sides[0] * x + sides[1] * y - sides[2]).max(axis=0)


def regular_polygon(centre: Point, radius: float, sides: int, angle: float) -> np.ndarray:
    """Corners [n, 2] of a regular polygon; at angle 0 one of them points upwards."""
    angles = angle + 2 * np.pi * np.arange(sides) / sides
    return np.stack([centre[0] + radius * np.sin(angles), centre[1] - radius * np.cos(angles)], axis=1)


def distance_to_segments(x: np.ndarray, y: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Distance to the nearest of line segments x0, y0, x1, y1.

    Shapes: x [..., 1, w], y [..., h, 1], segments [..., n, 4] -> [..., h, w].
    """
    x0, y0, x1, y1 = (segments[..., k, None, None] for k in range(4))  # [..., n, 1, 1]
    x, y = x[..., None, :, :] - x0, y[..., None, :, :] - y0
    along_x, along_y = x1 - x0, y1 - y0
    squared_length = np.maximum(along_x**2 + along_y**2, 1e-12)
    share = np.clip(x * (along_x / squared_length) + y * (along_y / squared_length), 0, 1)
    return np.sqrt(((x - share * along_x) ** 2 + (y - share * along_y) ** 2).min(axis=-3))


@lru_cache(maxsize=64)
def interpolation(resolution: int, cells: int) -> np.ndarray:
    """Linear interpolation from cells + 1 values at equal distances to pixel centres, float32 [R, cells + 1]."""
    positions = (np.arange(resolution) + 0.5) / resolution * cells
    return np.maximum(0, 1 - abs(positions[:, None] - np.arange(cells + 1))).astype(np.float32)


def noise(rng: np.random.Generator, resolution: int, cells: int, dimensions: int) -> np.ndarray:
    """Fractal value noise in about [-1, 1], float32 [R] or [R, R].

    Each octave has twice the cells and half the height of the one before. Octaves finer than two pixels are left out:
    a higher resolution shows more detail of the same noise.
    """
    total, height, seed = np.zeros((resolution,) * dimensions, np.float32), 0.5, int(rng.integers(2**32))
    while 2 * cells <= resolution:
        octave = np.random.Generator(np.random.PCG64([seed, cells]))
        values = octave.random((cells + 1,) * dimensions, np.float32) * 2 - 1
        for _ in range(dimensions):  # an interpolation along the first axis, then the axes change places
            values = (interpolation(resolution, cells) @ values).T
        total, height, cells = total + height * values, height / 2, 2 * cells
    return total


class Canvas:
    """A square picture to draw on.

    Attributes:
        picture: float32 [3, R, R] in [0, 1].
        x, y: coordinates of the pixel centres, [1, R] and [R, 1].
    """

    def __init__(self, resolution: int, colour: Colour):
        self.resolution = resolution
        self.picture = np.empty((3, resolution, resolution), np.float32)
        self.picture[:] = np.reshape(colour, (3, 1, 1))
        centres = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
        self.x, self.y = centres[None, :], centres[:, None]

    def to_uint8(self) -> np.ndarray:
        """The picture as uint8 [3, R, R]."""
        return (self.picture * 255 + 0.5).clip(0, 255).astype(np.uint8)

    def pixels_between(self, low: float, high: float) -> slice:
        """The pixels that an extent touches, with one to spare on either side."""
        return slice(max(0, int(low * self.resolution) - 1), max(0, int(high * self.resolution) + 2))

    def blend(self, colour: Colour, share: np.ndarray, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Mixes a colour into part of the picture; share in [0, 1], [h, w] or anything that broadcasts to it."""
        region = self.picture[:, rows, columns]
        region += share * (np.asarray(colour, np.float32).reshape(3, 1, 1) - region)

    def fill(self, colour: Colour, shape: Distance, centre: Point = (0.5, 0.5), reach: float = 1.0) -> None:
        """Draws a shape that lies within ``reach`` of ``centre`` to all sides."""
        rows = self.pixels_between(centre[1] - reach, centre[1] + reach)
        columns = self.pixels_between(centre[0] - reach, centre[0] + reach)
        distance = shape(self.x[:, columns], self.y[rows])
        self.blend(colour, (0.5 - distance * self.resolution).clip(0, 1), rows, columns)

    def disc(self, colour: Colour, centre: Point, radius: float) -> None:
        """A filled circle."""
        self.fill(colour, disc(centre, radius), centre, radius)

    def ring(self, colour: Colour, centre: Point, radius: float, width: float) -> None:
        """A circle drawn with a pen of the given width."""
        self.fill(colour, ring(centre, radius, width), centre, radius + width)

    def ellipse(self, colour: Colour, centre: Point, radii: Point) -> None:
        """A filled, upright ellipse."""
        self.fill(colour, ellipse(centre, radii), centre, max(radii))

    def pen(self, distance: np.ndarray, width: float) -> np.ndarray:
        """Share of each pixel under a line of the given width; right for lines much thinner than a pixel, too."""
        inner, outer = (width / 2 - distance) * self.resolution, (width / 2 + distance) * self.resolution
        return (inner + 0.5).clip(0, 1) - (0.5 - outer).clip(0, 1)

    def line(self, colour: Colour, points: Sequence[Point], width: float) -> None:
        """A line through the given points with round ends."""
        points = np.asarray(points, np.float32)
        left, top = points.min(axis=0) - width
        right, bottom = points.max(axis=0) + width
        rows, columns = self.pixels_between(top, bottom), self.pixels_between(left, right)
        segments = np.concatenate([points[:-1], points[1:]], axis=1)
        distance = distance_to_segments(self.x[:, columns], self.y[rows], segments)
        self.blend(colour, self.pen(distance, width), rows, columns)

    def overlaps(self, intervals: np.ndarray) -> np.ndarray:
        """Share of each pixel that lies in each interval [n, 2] of one axis, [R, n]."""
        edges = np.asarray(intervals, np.float32) * self.resolution
        starts = np.arange(self.resolution, dtype=np.float32)[:, None]
        return (np.minimum(starts + 1, edges[:, 1]) - np.maximum(starts, edges[:, 0])).clip(0, 1)

    def grid(self, colour: Colour, columns: np.ndarray, rows: np.ndarray, shares: np.ndarray | None = None) -> None:
        """Rectangles at the crossings of columns [n, 2] and rows [m, 2], each with its own share [m, n] in [0, 1]."""
        across, down = self.overlaps(columns), self.overlaps(rows)
        shares = np.ones((len(rows), len(columns))) if shares is None else shares
        self.blend(colour, down @ shares.astype(np.float32) @ across.T)

    def rectangle(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        """A filled, upright rectangle."""
        self.grid(colour, np.array([[left, right]]), np.array([[top, bottom]]))

    def text(self, colour: Colour, lines: Sequence[tuple[str, Point]], height: float, width: float) -> None:
        """Writes lines of capitals and digits, each from its top left corner, with a pen of the given width."""
        glyphs = [
            (GLYPHS[character], left + k * ADVANCE * height, top)
            for line, (left, top) in lines
            for k, character in enumerate(line)
            if character != " "
        ]
        corners = np.array([(left, top) for _, left, top in glyphs], np.float32)  # [g, 2]
        segments = np.stack([segments for segments, _, _ in glyphs]) * height + np.tile(corners, 2)[:, None]
        tile = [min(int((size * height + width) * self.resolution) + 3, self.resolution) for size in (GLYPH_WIDTH, 1)]
        first = ((corners - width / 2) * self.resolution - 0.5).astype(int).clip(0, self.resolution - np.array(tile))
        x = self.x[0][first[:, :1] + np.arange(tile[0])]  # [g, w]
        y = self.y[:, 0][first[:, 1:] + np.arange(tile[1])]  # [g, h]
        inked = self.pen(distance_to_segments(x[:, None, :], y[:, :, None], segments), width)  # [g, h, w]
        page = np.zeros((self.resolution, self.resolution), np.float32)
        for (column, row), share in zip(first, inked, strict=True):
            region = page[row : row + tile[1], column : column + tile[0]]
            np.maximum(region, share, out=region)
        self.blend(colour, page)
