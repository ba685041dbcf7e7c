# SPDX-License-Identifier: Apache-2.0
"""Drawn areas against their formulas, at resolutions where a pixel is wider than what is drawn."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.data.scenes.canvas import Canvas, noise, polygon, regular_polygon
from dcae.data.scenes.font import GLYPHS

WHITE, BLACK = (1, 1, 1), (0, 0, 0)
inside = st.floats(0.3, 0.7)


def area(draw, resolution: int) -> float:
    """Share of a black canvas that a drawing in white covers."""
    canvas = Canvas(resolution, BLACK)
    draw(canvas)
    return float(canvas.picture.mean(dtype=np.float64))


# The share of a pixel is exact for straight edges along the axes and good to first order for others.
@given(inside, inside, st.floats(0.05, 0.25), st.sampled_from([32, 64, 200]))
def test_disc_has_its_area(x, y, radius, resolution):
    drawn, pixels = area(lambda canvas: canvas.disc(WHITE, (x, y), radius), resolution), radius * resolution
    assert drawn == pytest.approx(np.pi * radius**2, rel=0.005 + 0.2 / pixels**2)  # second order in the curvature


@given(inside, inside, st.floats(0.06, 0.25), st.floats(0.06, 0.25))
def test_ellipse_has_its_area(x, y, across, down):
    assert area(lambda canvas: canvas.ellipse(WHITE, (x, y), (across, down)), 128) == pytest.approx(
        np.pi * across * down, rel=0.04
    )


@given(inside, inside, st.floats(0.1, 0.25), st.floats(0, 6.28), st.sampled_from([3, 4, 6]))
def test_polygon_has_its_area(x, y, radius, angle, sides):
    corners = regular_polygon((x, y), radius, sides, angle)
    expected = sides / 2 * radius**2 * np.sin(2 * np.pi / sides)
    assert area(lambda canvas: canvas.fill(WHITE, polygon(corners), (x, y), radius), 128) == pytest.approx(
        expected, rel=0.03
    )


@given(inside, inside, st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_rectangle_has_exactly_its_area(x, y, width, height):
    drawn = area(lambda canvas: canvas.rectangle(WHITE, x, y, x + width, y + height), 64)
    assert drawn == pytest.approx(width * height, rel=1e-3, abs=1e-6)  # float32 coordinates


@given(inside, st.floats(0.002, 0.05), st.sampled_from([32, 64, 256]))
def test_upright_line_has_its_area_however_thin(x, width, resolution):
    drawn = area(lambda canvas: canvas.line(WHITE, [(x, -1), (x, 2)], width), resolution)
    assert drawn == pytest.approx(width, rel=1e-3)


@settings(max_examples=25)
@given(inside, inside, st.floats(0, 3.14))
def test_slanted_thin_line_has_its_area_on_average_over_a_pixel(x, y, angle):
    width, half = 0.004, 0.25 * np.array([np.cos(angle), np.sin(angle)])

    def drawn(x):
        centre = np.array([x, y])
        return area(lambda canvas: canvas.line(WHITE, [centre - half, centre + half], width), 64)

    # A quarter of a pixel wide: one that runs along a diagonal of pixels has up to 44 % too much or 28 % too little, as
    # it meets their centres or passes between them. The round ends reach half a pixel too far.
    areas = [drawn(x + k / 8 / 64) for k in range(8)]
    assert np.mean(areas) == pytest.approx(width * 0.5, rel=0.06)


def test_characters_differ_from_each_other():
    def drawn(character):
        canvas = Canvas(16, BLACK)
        canvas.text(WHITE, [(character, (0.2, 0.1))], 0.8, 0.1)
        return canvas.picture

    for first, second in combinations(GLYPHS, 2):
        assert abs(drawn(first) - drawn(second)).max() > 0.5, (first, second)


def test_text_at_the_border_stays_on_the_canvas():
    canvas = Canvas(32, BLACK)
    canvas.text(WHITE, [("EDGE", (-0.1, -0.1)), ("EDGE", (0.6, 0.9))], 0.3, 0.05)
    assert canvas.picture.max() <= 1


def test_noise_at_a_higher_resolution_is_the_same_with_more_detail():
    low, high = (noise(np.random.default_rng(3), resolution, 4, dimensions=2) for resolution in (64, 256))
    assert low.shape == (64, 64) and high.shape == (256, 256)
    pooled = high.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(low.ravel(), pooled.ravel())[0, 1] > 0.97
    detail = high - np.kron(pooled, np.ones((4, 4)))
    assert detail.std() > 0.1 * pooled.std()
