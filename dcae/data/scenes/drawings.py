# SPDX-License-Identifier: Apache-2.0
"""One function per class of procedural scene: takes random numbers and a resolution, returns a drawing and its caption.

The classes have what autoencoders lose first: thin lines, small text, repeated texture, smooth gradients, overlapping
shapes, faces. No choice depends on the resolution, so a scene looks alike at all of them. A change of any picture needs
a new ``VERSION`` in ``dataset.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from dcae.data.scenes.canvas import Canvas, noise, regular_polygon, text_width
from dcae.data.scenes.vocabulary import (
    COLOURS,
    DARK,
    LIGHT,
    SKIN,
    WORDS,
    a,
    counted,
    listed,
    mix,
    pick,
    pick_different,
    shade,
)  # fmt: skip

Drawing = tuple[Canvas, str]


def boxes(columns: np.ndarray, rows: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Return the rectangles at the crossings of columns [n, 2] and rows [m, 2], row by row."""
    rows, columns = np.asarray(rows).tolist(), np.asarray(columns).tolist()
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def coverage(distance: np.ndarray, resolution: int) -> np.ndarray:
    """Return the share of each pixel that a shape covers, from the signed distance to it (negative inside)."""
    return (0.5 - distance * resolution).clip(0, 1)


# --- shapes and patterns ----------------------------------------------------------------------------------------------


def shapes(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw two to five overlapping shapes, each in its own colour; none covers the middle of another."""
    count = int(rng.integers(2, 6))
    background, *colours = pick_different(rng, list(COLOURS), count + 1)
    canvas = Canvas(resolution, shade(rng, background))
    spread = {2: 0.18, 3: 0.20, 4: 0.23, 5: 0.25}[count]
    neighbour = 2 * spread * np.sin(np.pi / count)
    centres = regular_polygon((0.5, 0.5), spread, count, rng.uniform(0, 2 * np.pi)) + rng.uniform(-0.03, 0.03, 2)
    seen = []
    for name, centre in zip(colours, centres, strict=True):
        kind = pick(rng, ("disc", "ring", "triangle", "square", "hexagon"))
        size, angle, colour = neighbour * rng.uniform(0.6, 0.92), rng.uniform(0, 2 * np.pi), shade(rng, name)
        if kind == "disc":
            canvas.disc(colour, centre, size)
        elif kind == "ring":
            canvas.ring(colour, centre, size * 0.8, size * 0.3)
        else:
            sides = {"triangle": 3, "square": 4, "hexagon": 6}[kind]
            canvas.polygon(colour, regular_polygon(centre, size, sides, angle))
        seen.append(a(f"{name} {kind}"))
    return canvas, f"{listed(seen)} on {a(background)} background"


def stripes(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw parallel stripes as wide as the gaps between them."""
    count, direction = int(rng.integers(3, 20)), pick(rng, ("vertical", "horizontal", "diagonal"))
    first, second = pick_different(rng, list(COLOURS), 2)
    rising = bool(rng.integers(2))
    canvas = Canvas(resolution, shade(rng, second))
    x, y = canvas.x, canvas.y
    across = {"vertical": x, "horizontal": y, "diagonal": (x + y) / 2 if rising else (x - y + 1) / 2}[direction]
    from_middle = abs(across * count % 1 - 0.5)  # 0 in the middle of a stripe, 0.5 in the middle of a gap
    distance = (from_middle - 0.25) / count * (2**0.5 if direction == "diagonal" else 1)
    canvas.blend(shade(rng, first), coverage(distance, resolution))
    return canvas, f"{count} {direction} {first} stripes on {a(second)} background"


def dots(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a square array of dots."""
    count, size = int(rng.integers(3, 13)), rng.uniform(0.2, 0.4)
    first, second = pick_different(rng, list(COLOURS), 2)

    canvas = Canvas(resolution, shade(rng, second))
    x, y = (abs(axis * count % 1 - 0.5) for axis in (canvas.x, canvas.y))  # from the middle of the nearest dot
    canvas.blend(shade(rng, first), coverage((np.sqrt(x**2 + y**2) - size) / count, resolution))
    return canvas, f"{count} rows of {count} {first} dots on {a(second)} background"


def bricks(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a wall of bricks, each with its own shade, all with a grain."""
    rows, joint = int(rng.integers(5, 13)), rng.uniform(0.008, 0.016)
    length, start = 2.2 / rows, rng.uniform(0, 2.2 / rows)
    brick, mortar = pick(rng, ("red", "orange", "brown", "grey")), pick(rng, ("white", "black"))
    canvas, colour = Canvas(resolution, shade(rng, mortar)), shade(rng, brick)
    for parity in range(2):
        tops = np.arange(parity, rows, 2) / rows
        lefts = np.arange(-1, int(1 / length) + 2) * length + start - parity * length / 2
        down = np.stack([tops + joint / 2, tops + 1 / rows - joint / 2], axis=1)
        across = np.stack([lefts + joint / 2, lefts + length - joint / 2], axis=1)
        darker = rng.uniform(0, 0.2, (len(down) * len(across), 1))
        canvas.rectangles(mix(colour, COLOURS["black"], darker), boxes(across, down))
    canvas.blend(COLOURS["black"], 0.09 + 0.12 * noise(rng, resolution, 16, dimensions=2))
    return canvas, f"a wall of {rows} rows of {brick} bricks with {mortar} mortar"


def gradient(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw one colour that turns smoothly into another."""
    first, second = pick_different(rng, list(COLOURS), 2)
    canvas = Canvas(resolution, shade(rng, first))
    x, y = canvas.x, canvas.y
    share, places = [
        (x + 0 * y, ("on the left", "on the right")),
        (y + 0 * x, ("at the top", "at the bottom")),
        ((x + y) / 2, ("in the top left corner", "in the bottom right corner")),
        ((np.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.6).clip(0, 1), ("in the middle", "at the edges")),
    ][rng.integers(4)]
    canvas.blend(shade(rng, second), share)
    return canvas, f"a smooth gradient from {first} {places[0]} to {second} {places[1]}"


# --- things -----------------------------------------------------------------------------------------------------------


def text(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a page of words in small capitals; the caption has every word."""
    ink, paper = pick(rng, DARK), pick(rng, LIGHT)
    words = pick_different(rng, WORDS, int(rng.integers(6, 15)))
    lines = [" ".join(words[k : k + 2]) for k in range(0, len(words), 2)]
    height, left = rng.uniform(0.05, 0.075), rng.uniform(0.05, 0.08)
    height = min(height, (1 - 2 * left) / max(map(text_width, lines)))
    spacing = min(height * rng.uniform(1.4, 2.2), 0.82 / len(lines))
    top = 0.5 - (spacing * (len(lines) - 1) + height) / 2
    canvas, colour = Canvas(resolution, shade(rng, paper)), shade(rng, ink)
    for k, line in enumerate(lines):
        canvas.text(colour, line, (left, top + k * spacing + height), height)
    if ruled := bool(rng.integers(2)):
        canvas.line(colour, [(left, 0.05), (1 - left, 0.05)], 0.006)
        canvas.line(colour, [(left, 0.95), (1 - left, 0.95)], 0.006)
    between = " between two thin lines" if ruled else ""
    return canvas, f'the words "{" ".join(words)}" printed in {ink} on {paper} paper{between}'


def face(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a face from the front."""
    background, hair = pick_different(rng, ("green", "blue", "purple", "pink", "orange", "yellow", "brown", "black"), 2)
    eyes, mood = pick(rng, ("blue", "green", "brown")), pick(rng, ("smiling", "sad", "serious"))
    glasses, skin = bool(rng.integers(2)), np.array(SKIN[rng.integers(len(SKIN))])
    x, y = rng.uniform(0.44, 0.56), rng.uniform(0.52, 0.58)
    width, height, apart = rng.uniform(0.21, 0.26), rng.uniform(0.30, 0.34), rng.uniform(0.09, 0.11)
    canvas, dark, lips = Canvas(resolution, shade(rng, background)), mix(skin, (0, 0, 0), 0.45), (0.72, 0.22, 0.25)
    canvas.ellipse(mix(skin, COLOURS["black"], 0.15), (x, y + height), (0.09, 0.2))
    canvas.ellipse(shade(rng, hair), (x, y - 0.07), (width + 0.05, height))
    canvas.ellipse(skin, (x, y + 0.03), (width, height - 0.04))
    for side in (-1, 1):
        eye = (x + side * apart, y - 0.03)
        canvas.ellipse((1, 1, 1), eye, (0.055, 0.034))
        canvas.disc(COLOURS[eyes], eye, 0.031)
        canvas.disc((0, 0, 0), eye, 0.013)
        canvas.line(dark, [(eye[0] - 0.05, eye[1] - 0.06), (eye[0] + 0.05, eye[1] - 0.065)], 0.012)
        if glasses:
            canvas.ring((0.05, 0.05, 0.05), eye, 0.078, 0.012)
    if glasses:
        canvas.line((0.05, 0.05, 0.05), [(x - apart + 0.078, y - 0.03), (x + apart - 0.078, y - 0.03)], 0.012)
    canvas.line(dark, [(x, y), (x - 0.025, y + 0.085), (x + 0.015, y + 0.09)], 0.01)
    curve = {"smiling": 0.05, "sad": -0.05, "serious": 0.0}[mood]
    across = np.linspace(-1, 1, 9)
    canvas.line(lips, np.stack([x + 0.09 * across, y + 0.165 + curve * (0.5 - across**2)], axis=1), 0.02)
    parts = [f"{hair} hair", f"{eyes} eyes", *(["glasses"] if glasses else [])]
    return canvas, f"a {mood} face with {listed(parts)} on {a(background)} background"


def network(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw nodes around a circle joined by thin lines, none of which passes through a third node."""
    background, line, node = pick_different(rng, list(COLOURS), 3)
    count, turn = int(rng.integers(4, 9)), rng.uniform(0, 2 * np.pi)
    places = regular_polygon((0.5, 0.5), 0.37, count, turn) + rng.uniform(-0.02, 0.02, (count, 2))
    order = rng.permutation(count).tolist()
    pairs = [*pairwise(order), *rng.integers(count, size=(count, 2)).tolist()]
    joined = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
    canvas, thin = Canvas(resolution, shade(rng, background)), shade(rng, line)
    width, radius = rng.uniform(0.004, 0.012), rng.uniform(0.025, 0.04)
    for one, other in sorted(joined):
        canvas.line(thin, places[[one, other]], width)
    colour = shade(rng, node)
    for place in places:
        canvas.disc(colour, place, radius)
    lines = f"{len(joined)} thin {line} lines"
    return canvas, f"{count} {node} nodes joined by {lines} on {a(background)} background"


def clock(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a clock with twelve ticks, four numerals and two hands."""
    background, rim = pick_different(rng, ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"), 2)
    hour, minute = int(rng.integers(1, 13)), int(rng.integers(12)) * 5
    (x, y), radius = rng.uniform(0.46, 0.54, 2), rng.uniform(0.33, 0.42)
    canvas, ink, pale = Canvas(resolution, shade(rng, background)), COLOURS["black"], COLOURS["white"]
    canvas.disc(shade(rng, rim), (x, y), radius)
    canvas.disc(pale, (x, y), radius * 0.9)
    outer, inner = (regular_polygon((x, y), radius * share, 12, 0) for share in (0.86, 0.77))
    for start, end in zip(outer, inner, strict=True):
        canvas.line(ink, [start, end], radius * 0.025)
    size = radius * 0.17
    for numeral, (cx, cy) in zip(("12", "3", "6", "9"), regular_polygon((x, y), radius * 0.62, 4, 0), strict=True):
        canvas.text(ink, numeral, (cx, cy + size / 2), size, centred=True)
    for turn, length, width in ((hour / 12 + minute / 720, 0.45, 0.06), (minute / 60, 0.72, 0.035)):
        angle = 2 * np.pi * turn
        tip = (x + radius * length * np.sin(angle), y - radius * length * np.cos(angle))
        canvas.line(ink, [(x, y), tip], radius * width)
    canvas.disc(ink, (x, y), radius * 0.05)
    return canvas, f"a clock with {a(rim)} rim on {a(background)} background showing {hour}:{minute:02d}"


def flowers(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw one to three flowers on thin stems, all with the same number of petals."""
    count, petals = int(rng.integers(1, 4)), int(rng.integers(5, 9))
    sky, petal, heart = pick_different(rng, ("white", "yellow", "pink", "purple", "blue", "red", "orange"), 3)
    canvas = Canvas(resolution, shade(rng, sky))
    green, colour, middle = shade(rng, "green"), shade(rng, petal), shade(rng, heart)
    for k in range(count):
        x, y = (k + 0.5) / count + rng.uniform(-0.03, 0.03), rng.uniform(0.3, 0.5)
        radius, phase = rng.uniform(0.8, 1) * {1: 0.24, 2: 0.18, 3: 0.12}[count], rng.uniform(0, 2 * np.pi)
        foot = x + rng.uniform(-0.08, 0.08)
        canvas.line(green, [(x, y), ((x + foot) / 2, (y + 1.1) / 2 + 0.02), (foot, 1.1)], 0.014)
        canvas.ellipse(green, ((x + foot) / 2 + 0.04, 0.8), (0.045, 0.02))
        for centre in regular_polygon((x, y), radius * 0.68, petals, phase):
            canvas.disc(colour, centre, radius * 0.68 * np.sin(np.pi / petals) * 0.92)
        canvas.disc(middle, (x, y), radius * 0.36)
    each = " each" if count > 1 else ""
    bunch = counted(count, f"{petal} flower")
    return canvas, f"{bunch} with {petals} petals{each} and {heart} centres on {a(sky)} background"


# --- views ------------------------------------------------------------------------------------------------------------


def landscape(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw a sun or moon over ranges of hills that grow darker towards the viewer."""
    high, low, light, when = [
        ("blue", "white", "yellow sun", "by day"),
        ("purple", "orange", "red sun", "in the evening"),
        ("black", "blue", "white moon", "at night"),
    ][rng.integers(3)]
    ground, ranges = pick(rng, ("green", "brown", "grey")), int(rng.integers(2, 5))
    canvas = Canvas(resolution, shade(rng, high))
    canvas.blend(shade(rng, low), (canvas.y / 0.7).clip(0, 1))
    canvas.disc(COLOURS[light.split()[0]], (rng.uniform(0.15, 0.85), rng.uniform(0.12, 0.25)), rng.uniform(0.05, 0.09))
    far, near = mix(COLOURS[ground], COLOURS[low], 0.2), mix(COLOURS[ground], COLOURS["black"], 0.45)
    height, grain = rng.uniform(0.15, 0.3) / ranges, noise(rng, resolution, 8, dimensions=2)
    for k in range(ranges):
        horizon = 0.5 + 0.4 * k / ranges + height * noise(rng, resolution, 3, dimensions=1)
        outline = [(0, 2), (0, horizon[0]), *zip(canvas.x[0], horizon, strict=True), (1, horizon[-1]), (1, 2)]
        canvas.polygon(mix(far, near, k / (ranges - 1)), outline)
    covered = coverage(horizon - canvas.y, resolution)
    canvas.blend(COLOURS["black"], covered * (0.15 + 0.2 * grain))
    return canvas, f"{a(light)} over {ranges} ranges of {ground} hills {when}"


def skyline(rng: np.random.Generator, resolution: int) -> Drawing:
    """Draw buildings with rows of windows, some of them lit, before an evening sky."""
    count, high = int(rng.integers(4, 9)), pick(rng, ("blue", "purple", "black"))
    low, light = pick(rng, ("orange", "pink", "red")), pick(rng, ("yellow", "white"))
    canvas = Canvas(resolution, shade(rng, high))
    canvas.blend(shade(rng, low), canvas.y)
    edges = np.concatenate([[0], np.cumsum(rng.uniform(0.7, 1.3, count))])
    edges = 0.02 + 0.96 * edges / edges[-1]
    for left, right in pairwise(edges):
        left, right = left + 0.006, right - 0.006  # a gap, so that buildings can be counted
        top = rng.uniform(0.2, 0.65)
        wall = mix((0.10, 0.11, 0.16), COLOURS[high], rng.uniform(0, 0.15))
        canvas.rectangles(wall, [(left, top, right, 1)])
        across, down = int(rng.integers(3, 6)), int((1 - top) / rng.uniform(0.05, 0.08))
        columns = left + (right - left) * (np.arange(across)[:, None] + (0.25, 0.75)) / across
        rows = top + (1 - top) * (np.arange(down)[:, None] + (0.3, 0.75)) / down
        lit = rng.random((down * across, 1)) < 0.6
        windows = mix(wall, COLOURS[light], np.where(lit, rng.uniform(0.7, 1), 0.08))
        canvas.rectangles(windows, boxes(columns, rows))
    return canvas, f"{count} dark buildings with {light} windows under a sky that is {high} at the top and {low} below"


DRAWINGS: tuple[Callable[[np.random.Generator, int], Drawing], ...] = (
    shapes, stripes, dots, bricks, gradient, text, face, network, clock, flowers, landscape, skyline,
)  # fmt: skip
