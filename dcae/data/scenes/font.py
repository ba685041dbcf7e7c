# SPDX-License-Identifier: Apache-2.0
"""A stroke font: the same letters at any resolution.

Outline fonts are hinted, so that their letters move with the pixel size; strokes in unit coordinates do not.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# Strokes of each character on a grid of 3 columns (0 to 2, left to right) and 5 rows (0 to 4, downwards).
# "04-10-24 12-13" would be two strokes, through the points (0,4) (1,0) (2,4) and (1,2) (1,3).
STROKES = {
    "A": "04-01-10-21-24 02-22",
    "B": "00-04-14-23-12-02 12-21-10-00",
    "C": "21-10-01-03-14-23",
    "D": "00-04-14-23-21-10-00",
    "E": "20-00-04-24 02-12",
    "F": "20-00-04 02-12",
    "G": "21-10-01-03-14-23-22-12",
    "H": "00-04 20-24 02-22",
    "I": "00-20 10-14 04-24",
    "J": "20-23-14-03",
    "K": "00-04 20-02-24",
    "L": "00-04-24",
    "M": "04-00-12-20-24",
    "N": "04-00-24-20",
    "O": "10-01-03-14-23-21-10",
    "P": "04-00-10-21-12-02",
    "Q": "10-01-03-14-23-21-10 13-24",
    "R": "04-00-10-21-12-02 12-24",
    "S": "20-10-01-12-23-14-04",
    "T": "00-20 10-14",
    "U": "00-03-14-23-20",
    "V": "00-14-20",
    "W": "00-04-12-24-20",
    "X": "00-24 20-04",
    "Y": "00-12-20 12-14",
    "Z": "00-20-04-24",
    "0": "10-01-03-14-23-21-10 03-21",
    "1": "01-10-14 04-24",
    "2": "01-10-21-04-24",
    "3": "00-20-12-23-14-03",
    "4": "14-10-03-23",
    "5": "20-00-02-12-23-14-03",
    "6": "20-01-03-14-23-12-02",
    "7": "00-20-14",
    "8": "10-01-12-23-14-03-12-21-10",
    "9": "22-12-01-10-21-23-04",
}

GLYPH_WIDTH = 0.5  # of a character, as a share of its height
ADVANCE = 0.75  # from one character to the next, as a share of the height


def _segments(strokes: str) -> np.ndarray:
    """Line segments x0, y0, x1, y1 of one character of height 1, float32 [n, 4]."""
    segments = []
    for stroke in strokes.split():
        points = [(int(column) / 2 * GLYPH_WIDTH, int(row) / 4) for column, row in stroke.split("-")]
        segments += [(*start, *end) for start, end in pairwise(points)]
    return np.array(segments, np.float32)


def _equally_many(glyphs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Repeats the last segment of shorter characters, so that those of a whole text fit into one array."""
    longest = max(len(segments) for segments in glyphs.values())
    return {
        character: np.concatenate([segments, np.repeat(segments[-1:], longest - len(segments), axis=0)])
        for character, segments in glyphs.items()
    }


GLYPHS = _equally_many({character: _segments(strokes) for character, strokes in STROKES.items()})


def text_width(text: str, height: float) -> float:
    """Width of one line of text in capitals of the given height."""
    return height * (ADVANCE * (len(text) - 1) + GLYPH_WIDTH)
