# SPDX-License-Identifier: Apache-2.0
"""The style of every figure and its files: lines labelled at their ends, files equal to the byte."""

from __future__ import annotations

import functools
import io
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from dcae.files import replacing

# Width of the text in the paper (ICLR style), so that 8 points here are 8 points there.
WIDTH = 5.5
SMALL = 7
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}
# Okabe and Ito's colours, told apart with every kind of colour blindness.
COLOURS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
}
GREY = "#6E6E6E"

Point = tuple[float, float, float | None]  # x, value, standard error


@dataclass(frozen=True)
class Line:
    """Points of one name, drawn in the order given; ``marks``: the letters beside each point, if there are any."""

    name: str
    colour: str
    points: Sequence[Point]
    marker: str = "o"
    dashes: str = "-"
    hollow: bool = False
    marks: Sequence[str] = ()


def styled(draw_figure: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a function that draws a figure to use this style; text takes its size when it is made."""

    @functools.wraps(draw_figure)
    def in_style(*arguments) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw_figure(*arguments)

    return in_style


def new_figure(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure as wide as the paper's text with rows x columns of axes; height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def draw(axis: Axes, lines: Sequence[Line]) -> None:
    """Draw lines with markers, error bars of one standard error, and marks."""
    for line in lines:
        if line.points:
            x, y, errors = zip(*line.points, strict=True)
            bars = [error or 0.0 for error in errors]
            axis.errorbar(
                x, y, yerr=bars if any(bars) else None, color=line.colour, marker=line.marker, linestyle=line.dashes,
                markerfacecolor="white" if line.hollow else line.colour, zorder=3,
            )  # fmt: skip
        for (x, y, _), mark in zip(line.points, line.marks, strict=False):
            mark_point(axis, (x, y), mark)


def mark_point(axis: Axes, point: tuple[float, float], mark: str) -> None:
    """Write the marks of ``evaluation.tables.comparability`` below a point."""
    if mark:
        axis.annotate(mark, point, (0, -4), textcoords="offset points", ha="center", va="top", fontsize=SMALL)


# --- axes ---


def plain_log_ticks(axis: Axis, at_most: int = 6) -> None:
    """Tick a logarithmic axis at 1, 2 and 5 times powers of ten, or at powers of ten alone; thousands as "2k"."""
    low, high = axis.get_view_interval()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in decades for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    if len(ticks) > at_most:
        ticks = [tick for tick in ticks if math.log10(tick) % 1 == 0]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.set_minor_formatter(NullFormatter())


def log_if_positive(axis: Axes, lines: Sequence[Line], steps: float = 4.0) -> None:
    """Make the y axis logarithmic, if every value is positive and the largest exceeds the smallest ``steps``-fold."""
    values = [value for line in lines for _, value, _ in line.points]
    if values and min(values) > 0 and max(values) > steps * min(values):
        axis.set_yscale("log")
        axis.autoscale_view()
        plain_log_ticks(axis.yaxis)


def doubling_axis(axis: Axes, positions: Sequence[int], names: Sequence[str], margin: float = 1.3) -> None:
    """Make an x axis with a named tick at each position and equal steps for equal factors."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(positions, names)
    axis.xaxis.set_minor_locator(NullLocator())
    if positions:
        axis.set_xlim(min(positions) / margin, max(positions) * margin)


# --- names beside lines and points ---


def label_ends(axis: Axes, lines: Sequence[Line], width: int = 18) -> None:
    """Name each line to the right of the axes, at the height of its last point, moved apart if too close."""
    axis.autoscale_view()
    named = [line for line in lines if line.points]
    texts = [textwrap.fill(line.name, width, break_on_hyphens=False) for line in named]
    heights = [_in_axes(axis, line.points[-1])[1] for line in named]
    for line, text, height, wanted in zip(named, texts, _apart(axis, heights, texts), heights, strict=True):
        if abs(height - wanted) > 0.01:
            look = {"color": line.colour, "linewidth": 0.5, "clip_on": False}
            axis.plot([1.005, 1.045], [wanted, height], transform=axis.transAxes, **look)
        axis.text(1.06, height, text, transform=axis.transAxes, va="center", fontsize=SMALL, color=line.colour)


def label_points(
    axis: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], colours: Sequence[str]
) -> None:
    """Write a text to the right of each point, moved up or down where points are above each other."""
    axis.autoscale_view()
    places = [_in_axes(axis, point) for point in points]
    columns: list[list[int]] = []
    for index in sorted(range(len(places)), key=lambda i: places[i][0]):
        if columns and places[index][0] - places[columns[-1][0]][0] < 0.2:
            columns[-1].append(index)
        else:
            columns.append([index])
    for column in columns:
        heights = _apart(axis, [places[i][1] for i in column], [texts[i] for i in column])
        for i, height in zip(column, heights, strict=True):
            place = places[i][0] + 0.035, height
            axis.text(*place, texts[i], transform=axis.transAxes, va="center", fontsize=6.5, color=colours[i])


def _in_axes(axis: Axes, point: Sequence[float]) -> tuple[float, float]:
    """Position of a point in the axes, from (0, 0) at the lower left to (1, 1) at the upper right."""
    x, y = (axis.transData + axis.transAxes.inverted()).transform(point[:2])
    return float(x), float(y)


def _apart(axis: Axes, heights: Sequence[float], texts: Sequence[str]) -> list[float]:
    """Heights of texts moved as little as a sweep from below and one from above need so that none touch."""
    if not heights:
        return []
    points = axis.get_window_extent().height / axis.figure.dpi * 72
    sizes = [(1.15 * SMALL * (text.count("\n") + 1) + 1) / points for text in texts]
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    for lower, upper in itertools.pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + (sizes[lower] + sizes[upper]) / 2)
    placed[order[-1]] = min(placed[order[-1]], 1.0 - sizes[order[-1]] / 2)
    for upper, lower in itertools.pairwise(reversed(order)):
        placed[lower] = min(placed[lower], placed[upper] - (sizes[lower] + sizes[upper]) / 2)
    return placed


def name_colours(figure: Figure, colours: dict[str, str]) -> None:
    """Write coloured names above the panels, for points that no line joins."""
    handles = [figure.axes[0].plot([], [], "o", color=colour, label=name)[0] for name, colour in colours.items()]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=4, frameon=False, labelcolor="linecolor", handletextpad=0.2
    )


def say_not_run(axis: Axes, text: str = "not run") -> None:
    """Write a text in place of the data of a panel."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=GREY)


def footnote(figure: Figure, *texts: str) -> None:
    """Write small grey text below the axes, each on a new line."""
    if texts:
        filled = "\n".join(textwrap.fill(text, 112) for text in texts)
        figure.supxlabel(filled, fontsize=6.5, color=GREY, x=0.01, ha="left")


# --- files ---


def save_figure(figure: Figure, folder: Path, name: str, caption: str) -> list[Path]:
    """Write ``name.png`` and ``name.pdf`` atomically, the caption inside, no dates or versions. Returns the paths."""
    metadata = {
        "png": {"Software": None, "Description": caption},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Subject": caption},
    }
    written = []
    with matplotlib.rc_context(STYLE):
        for ending, fields in metadata.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, metadata=fields)
            path = Path(folder) / f"{name}.{ending}"
            with replacing(path) as temporary:
                temporary.write_bytes(buffer.getvalue())
            written.append(path)
    return written
