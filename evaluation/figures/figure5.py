# SPDX-License-Identifier: Apache-2.0
"""Figure 5 of the paper: rFID without a GAN, with one on all parameters, and with one on the decoder's head alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.series import axis_title, bases, reconstructions, resolutions
from evaluation.figures.style import COLOURS, SMALL, footnote, new_figure, say_not_run, styled
from evaluation.published import GAN_VARIANTS, Published
from evaluation.tables.comparability import Marks, marks_of_records
from evaluation.tables.rows import Result

STUDY = "gan"
# Parameters that see the GAN loss: tick label and colour.
USES = {
    "none": ("no GAN", COLOURS["orange"]),
    "all": ("GAN on\nfull model", COLOURS["vermillion"]),
    "decoder-head": ("GAN on\ndecoder head", COLOURS["blue"]),
}


@dataclass(frozen=True)
class Bar:
    """rFID with one use of a GAN, its standard error, and the value as text, with its marks."""

    use: str
    rfid: float
    standard_error: float | None
    text: str


def _published(published: Published) -> tuple[list[Bar], str]:
    """The paper's bars and their sources."""
    bars, sources = [], []
    for use, name in GAN_VARIANTS.items():
        value = published.find("figure 5", "rfid", dataset="ImageNet", resolution=256, autoencoder=name)
        if value:
            bars.append(Bar(use, value.value, None, f"{value.value:.{value.decimals}f}"))
            sources.append(value.source)
    return bars, "; ".join(dict.fromkeys(sources))


def _members(results: Sequence[Result], base: str) -> list[Result]:
    """The base of the study and its variants, one for each use of a GAN."""
    chosen: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: result.cell.autoencoder != base):
        variant = (result.cell.study, result.cell.base) == (STUDY, base)
        if (variant or result.cell.autoencoder == base) and result.cell.gan in USES:
            chosen.setdefault(result.cell.gan, result)
    return [chosen[use] for use in USES if use in chosen]


def _measured(members: Sequence[Result], marks: Marks) -> list[Bar]:
    bars = []
    for result in (result for result in members if "rfid" in result.values):
        value, mark = result.values["rfid"], marks.of_record(result.record)
        text = f"{value.value:.3g}" + (f" [{mark}]" if mark else "")
        bars.append(Bar(result.cell.gan, value.value, value.standard_error, text))
    return bars


def _panel(axis: Axes, bars: Sequence[Bar], title: str, y_title: str, filled: bool) -> None:
    """Bars from zero, each with its value above it; a use that was not run keeps its place."""
    places = list(USES)
    for bar in bars:
        _, colour = USES[bar.use]
        axis.bar(
            places.index(bar.use), bar.rfid, width=0.62, yerr=bar.standard_error, color=colour if filled else "white",
            edgecolor=colour, linewidth=1.2, error_kw={"linewidth": 0.9},
        )  # fmt: skip
        top = bar.rfid + (bar.standard_error or 0.0)
        look = {"ha": "center", "va": "bottom", "fontsize": SMALL, "color": colour}
        axis.annotate(bar.text, (places.index(bar.use), top), (0, 3), textcoords="offset points", **look)
    axis.set_xticks(range(len(USES)), [label for label, _ in USES.values()])
    axis.set(title=title, ylabel=y_title, xlim=(-0.6, len(USES) - 0.4))
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.18)
    axis.set_ylim(bottom=0)


@styled
def figure_5(results: Sequence[Result], published: Published) -> Figure:
    """Draw rFID by the GAN's use, at each dataset's lowest resolution; the paper's numbers in a panel of their own."""
    panels = []
    for dataset, found in resolutions(results).items():
        here = reconstructions(results, dataset, found[0])
        for base in bases(here, STUDY):
            panels.append((f"here: {dataset} {found[0]} px\n{base}", _members(here, base)))
    count = 1 + max(1, len(panels))
    columns = min(2, count)
    rows = -(-count // columns)
    figure, grid = new_figure(rows, columns, 2.2 * rows + 0.3)
    axes = [axis for row in grid for axis in row]
    bars, source = _published(published)
    marks = marks_of_records(result.record for _, members in panels for result in members)
    _panel(axes[0], bars, "paper: ImageNet 256 px\nDC-AE f32c32", "rFID ↓", filled=False)
    for axis, (title, members) in zip(axes[1:], panels, strict=False):
        _panel(axis, _measured(members, marks), title, axis_title("rFID ↓", members, "rfid"), filled=True)
    for axis in axes[1 + len(panels) :]:
        say_not_run(axis, "" if panels else "not run")
    random = any(
        result.values["rfid"].random_features for _, members in panels for result in members if "rfid" in result.values
    )
    apart = " rFID of random features: compare bars within a panel only, never with the paper's." if random else ""
    footnote(figure, f"Hollow: paper ({source}). Filled: measured here ± one standard error.{apart}", *marks.notes)
    return figure
