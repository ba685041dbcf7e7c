# SPDX-License-Identifier: Apache-2.0
"""Drawn areas against their formulas, and noise that is the same at all resolutions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcae.data.scenes.canvas import SUPERSAMPLING, Canvas, noise, regular_polygon

WHITE, BLACK = (1, 1, 1), (0, 0, 0)
inside = st.floats(0.3, 0.7)
size = st.floats(0.06, 0.25)


def area(draw, resolution: int) -> float:
    """Share of a black canvas that a drawing in white covers."""
    canvas = Canvas(resolution, BLACK)
    draw(canvas)
    return float(canvas.to_uint8().mean() / 255)


def rim(length: float, resolution: int) -> float:
    """Tolerance of an area: a pixel of the drawing along an edge of the given length."""
    return length / (resolution * SUPERSAMPLING)


@given(inside, inside, size, size, st.sampled_from([32, 64, 200]))
def test_ellipse_has_its_area(x, y, across, down, resolution):
    drawn = area(lambda canvas: canvas.ellipse(WHITE, (x, y), (across, down)), resolution)
    assert drawn == pytest.approx(np.pi * across * down, abs=rim(np.pi * (across + down), resolution))


@given(inside, inside, size, st.floats(0.01, 0.05))
def test_ring_has_its_area(x, y, radius, width):
    drawn = area(lambda canvas: canvas.ring(WHITE, (x, y), radius, width), 128)
    assert drawn == pytest.approx(2 * np.pi * radius * width, abs=rim(2 * np.pi * radius, 128))


@given(inside, inside, size, st.floats(0, 6.28), st.sampled_from([3, 4, 6]))
def test_polygon_has_its_area(x, y, radius, angle, sides):
    corners = regular_polygon((x, y), radius, sides, angle)
    expected = sides / 2 * radius**2 * np.sin(2 * np.pi / sides)
    drawn = area(lambda canvas: canvas.polygon(WHITE, corners), 128)
    assert drawn == pytest.approx(expected, abs=rim(2 * np.pi * radius, 128))


@given(inside, inside, st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_rectangle_has_its_area(x, y, width, height):
    drawn = area(lambda canvas: canvas.rectangles(WHITE, [(x, y, x + width, y + height)]), 64)
    assert drawn == pytest.approx(width * height, abs=rim(width + height + 0.01, 64))


@given(inside, inside, st.floats(0, 3.14), st.floats(0.004, 0.05))
def test_line_has_its_area(x, y, angle, width):
    centre, half = np.array([x, y]), 0.25 * np.array([np.cos(angle), np.sin(angle)])
    drawn = area(lambda canvas: canvas.line(WHITE, [centre - half, centre + half], width), 64)
    assert drawn == pytest.approx(0.5 * width, abs=rim(2 * 0.5, 64))  # both edges


def test_shares_of_a_colour_are_mixed_in():
    canvas = Canvas(4, (1, 0, 0))
    canvas.blend((0, 0, 1), np.linspace(0, 1, 4)[None])
    assert canvas.to_uint8()[:, 0].T.tolist() == [[255, 0, 0], [170, 0, 85], [85, 0, 170], [0, 0, 255]]


def test_noise_at_a_higher_resolution_is_the_same_with_more_detail():
    low, high = (noise(np.random.default_rng(3), resolution, 4, dimensions=2) for resolution in (64, 256))
    assert low.shape == (64, 64) and high.shape == (256, 256)
    pooled = high.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(low.ravel(), pooled.ravel())[0, 1] > 0.97
    detail = high - np.kron(pooled, np.ones((4, 4)))
    assert detail.std() > 0.1 * pooled.std()
