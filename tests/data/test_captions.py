# SPDX-License-Identifier: Apache-2.0
"""Captions of scenes are true: counts, colours, words and times are found again in the pixels."""

import re

import numpy as np
import pytest
from scipy import ndimage

from dcae.data.scenes.canvas import Canvas
from dcae.data.scenes.dataset import Scenes
from dcae.data.scenes.vocabulary import COLOURS

NAMES = list(COLOURS)
SCENES = Scenes(0, "validation", 10_000, 512)
EACH = 6


def drawn(name: str, resolution: int = 512):
    """Some scenes of one class as (float image [3, R, R] in [0, 1], caption)."""
    label = SCENES.classes.index(name)
    for index in range(label, label + EACH * len(SCENES.classes), len(SCENES.classes)):
        canvas, caption = SCENES.draw(index, resolution)
        yield canvas.to_uint8() / np.float32(255), caption


def where(picture: np.ndarray, name: str) -> np.ndarray:
    """Pixels of a named colour; shades vary by 0.04 in each channel."""
    return (abs(picture - np.reshape(COLOURS[name], (3, 1, 1))) < 0.045).all(axis=0)


def colours_in(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text) if word in NAMES]


def count_runs(mask: np.ndarray) -> int:
    return int((np.diff(np.concatenate([[0], mask.astype(int)])) == 1).sum())


def count_regions(mask: np.ndarray, smallest: int = 12) -> int:
    regions, _ = ndimage.label(mask)
    return int((np.bincount(regions.ravel())[1:] >= smallest).sum())


def test_shapes_are_all_visible_in_their_colours_and_no_other_is():
    for picture, caption in drawn("shapes"):
        said = set(colours_in(caption))
        seen = {name for name in NAMES if where(picture, name).mean() > 0.003}
        assert seen == said, caption


def test_number_and_direction_of_stripes():
    for picture, caption in drawn("stripes"):
        count, direction, first = re.match(r"(\d+) (\w+) (\w+) stripes", caption).groups()
        mask = where(picture, first)
        across = {
            "vertical": [mask[256]],
            "horizontal": [mask[:, 256]],
            "diagonal": [mask.diagonal(), mask[::-1].diagonal()],
        }
        assert max(count_runs(line) for line in across[direction]) == int(count), caption
        if direction != "diagonal":
            assert mask.all(axis=int(direction == "horizontal")).any(), caption


def test_number_of_dots():
    for picture, caption in drawn("dots"):
        rows, columns, colour = re.match(r"(\d+) rows of (\d+) (\w+) dots", caption).groups()
        assert count_regions(where(picture, colour)) == int(rows) * int(columns), caption


def test_rows_of_bricks():
    for picture, caption in drawn("bricks"):
        rows, mortar = re.match(r"a wall of (\d+) rows of \w+ bricks with (\w+) mortar", caption).groups()
        grey = picture.mean(axis=0)
        joints = (grey.min(axis=1) > 0.65) if mortar == "white" else (grey.max(axis=1) < 0.17)
        assert count_runs(~joints) == int(rows), caption


def test_ends_of_gradients():
    places = {
        "on the left": (256, 0), "on the right": (256, 511), "at the top": (0, 256), "at the bottom": (511, 256),
        "in the top left corner": (0, 0), "in the bottom right corner": (511, 511),
        "in the middle": (256, 256), "at the edges": (0, 0),
    }  # fmt: skip
    for picture, caption in drawn("gradient"):
        ends = re.match(r"a smooth gradient from (\w+) (.+) to (\w+) (.+)", caption).groups()
        for colour, place in (ends[:2], ends[2:]):
            assert abs(picture[:, *places[place]] - COLOURS[colour]).max() < 0.05, caption


def test_words_are_the_printed_ones(monkeypatch):
    printed, write = [], Canvas.text

    def watched(self, colour, line, *place):
        printed.append(line)
        write(self, colour, line, *place)

    monkeypatch.setattr(Canvas, "text", watched)
    for picture, caption in drawn("text"):
        words, ink, paper = re.match(r'the words "(.+)" printed in (\w+) on (\w+) paper', caption).groups()
        assert " ".join(printed) == words
        assert where(picture, paper).mean() > 0.5
        inked = where(picture, ink)
        assert not inked[:, 0].any() and not inked[:, -1].any(), "words are cut off at the border"
        lines = count_runs(inked[40:-40].any(axis=1))
        assert lines == len(printed), caption
        assert ("between two thin lines" in caption) == bool(inked[:30].any())
        printed.clear()


def test_hair_eyes_and_mouth_of_faces():
    for picture, caption in drawn("face"):
        mood, hair, eyes, background = re.match(
            r"an? (\w+) face with (\w+) hair.* (\w+) eyes.* on an? (\w+) b", caption
        ).groups()
        assert where(picture, background)[0, 0]
        for colour in (hair, eyes):
            assert where(picture, colour).sum() > 200, caption
        lips = (abs(picture - np.reshape((0.72, 0.22, 0.25), (3, 1, 1))) < 0.02).all(axis=0)
        y, x = np.nonzero(lips)
        middle = abs(x - x.mean()) < np.ptp(x) / 8
        bend = (y[middle].mean() - y[x < x.min() + np.ptp(x) / 8].mean()) / 512
        assert {"smiling": bend > 0.02, "sad": bend < -0.02, "serious": abs(bend) < 0.005}[mood], caption
        frames = (abs(picture - 0.05) < 0.005).all(axis=0)
        assert ("glasses" in caption) == (frames.sum() > 300)


def test_nodes_and_lines_of_networks():
    for picture, caption in drawn("network", resolution=1024):
        nodes, node, lines, line = re.match(r"(\d+) (\w+) nodes joined by (\d+) thin (\w+) lines", caption).groups()
        regions, _ = ndimage.label(where(picture, node))
        # A thin black line on white has grey edges: only large regions are nodes.
        discs = np.flatnonzero(np.bincount(regions.ravel())[1:] > 500) + 1
        assert len(discs) == int(nodes), caption
        centres = np.array(ndimage.center_of_mass(np.ones_like(regions), regions, discs))
        on_line, steps = where(picture, line), np.linspace(0, 1, 200)[:, None]
        joined = 0
        for k in range(len(discs)):
            for other in range(k):
                way = np.rint(centres[k] + steps * (centres[other] - centres[k])).astype(int)
                from_ends = [np.linalg.norm(way - centres[end], axis=1) for end in (k, other)]
                between = way[np.minimum(*from_ends) > 45]
                joined += bool(on_line[between[:, 0], between[:, 1]].all())
        assert joined == int(lines), caption


def test_time_of_clocks():
    for picture, caption in drawn("clock", resolution=1024):
        background, hour, minute = re.search(r"on an? (\w+) background showing (\d+):(\d+)", caption).groups()
        y, x = np.nonzero(~where(picture, background))
        centre, radius = np.array([(y.min() + y.max()) / 2, (x.min() + x.max()) / 2]), (x.max() - x.min()) / 2

        def dark(turn, share, picture=picture, centre=centre, radius=radius):
            at = np.rint(centre + share * radius * np.array([-np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)]))
            return picture[:, *at.astype(int)].max() < 0.3

        # Beyond the hour hand and within the numerals there is the minute hand only.
        assert [k for k in range(12) if dark(k / 12, 0.5)] == [int(minute) // 5], caption
        assert all(dark(int(hour) / 12 + int(minute) / 720, share) for share in np.linspace(0.1, 0.43, 8)), caption


def test_flowers_and_petals():
    for picture, caption in drawn("flowers", resolution=1024):
        flowers, petal, petals, heart = re.match(
            r"(\d) (\w+) flowers? with (\d) petals.* and (\w+) centres", caption
        ).groups()
        assert count_regions(where(picture, petal)) == int(flowers) * int(petals), caption
        assert count_regions(where(picture, heart)) == int(flowers), caption


def test_ranges_of_hills_and_light_in_the_sky():
    for picture, caption in drawn("landscape"):
        light, ranges = re.match(r"an? (\w+) (?:sun|moon) over (\d) ranges", caption).groups()
        assert where(picture, light)[: 512 // 3].any(), caption
        # Below the sun only ranges are of one colour, each of them but the nearest, which has a grain; a colour of the
        # sky or of the grain takes up less than 6 % of the picture, a range more than 7 %.
        _, areas = np.unique((picture[:, 180:] * 10_000).round().reshape(3, -1), axis=1, return_counts=True)
        assert (areas > 0.06 * 512**2).sum() == int(ranges) - 1, caption


def test_number_of_buildings():
    for picture, caption in drawn("skyline", resolution=1024):
        ground = picture[:, -1].max(axis=0) < 0.35
        assert count_runs(ground) == int(caption.split()[0]), caption


@pytest.mark.parametrize("name", SCENES.classes)
def test_captions_are_sentences_that_fit_a_text_encoder(name):
    for _, caption in drawn(name, resolution=16):
        assert len(caption.split()) < 40  # CLIP reads 77 tokens
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  ", caption)
