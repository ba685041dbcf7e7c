# SPDX-License-Identifier: Apache-2.0
"""Speeds of diffusion models as ratios to SD-VAE-f8: measured here over the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from evaluation.figures.style import (
    COLOURS,
    GREY,
    Line,
    draw,
    footnote,
    name_colours,
    new_figure,
    plain_log_ticks,
    save_figure,
    say_not_run,
    styled,
)
from evaluation.published import Published
from evaluation.tables.comparability import marks_of_records
from evaluation.tables.efficiency import INFERENCE_SPEED, TRAINING_SPEED, is_base, paper_speed, rows_of
from evaluation.tables.numbers import ratio_to_base
from evaluation.tables.rows import Result, Row

PANELS = {"Training": TRAINING_SPEED, "Inference": INFERENCE_SPEED}
CAPTION = (
    "Speed of diffusion models on each autoencoder's latents, as a ratio to the SD-VAE-f8 row with the most tokens: "
    "measured here over the paper's. On the line the paper's ratios reproduce."
)


@dataclass(frozen=True)
class Pair:
    """The ratio of a row in the paper and here, and the marks of its measurement."""

    model: str
    paper: float | None
    here: float | None
    mark: str


@styled
def figure_ratios(rows: Sequence[Row], published: Published) -> Figure:
    """Draw a panel for training and one for inference, a colour for each diffusion model."""
    figure, [axes] = new_figure(1, len(PANELS), 2.7)
    bases = [row for row in rows if is_base(row)]
    marks = marks_of_records(row.records["efficiency"] for row in rows)
    compared = [row for row in rows if any(ratio_to_base(row, metric, bases) for metric in PANELS.values())]
    models = list(dict.fromkeys(row.cell.diffusion_paper_name for row in compared))
    colours = dict(zip(models, list(COLOURS.values()), strict=False))
    for axis, (title, metric) in zip(axes, PANELS.items(), strict=True):
        pairs = [
            Pair(
                row.cell.diffusion_paper_name,
                paper_speed(row, metric, bases, published).ratio,
                ratio_to_base(row, metric, bases),
                marks.of_record(row.records["efficiency"]),
            )
            for row in rows
        ]
        known = [pair for pair in pairs if pair.paper and pair.here]
        axis.set_title(title)
        if not known:
            say_not_run(axis)
            continue
        lines = []
        for model in models:
            members = [pair for pair in known if pair.model == model]
            points = [(pair.paper, pair.here, None) for pair in members]
            lines.append(Line(model, colours[model], points, dashes="none", marks=[pair.mark for pair in members]))
        ends = [ratio for pair in known for ratio in (pair.paper, pair.here)]
        low, high = min(ends) / 1.3, max(ends) * 1.3
        axis.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        draw(axis, lines)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        for each in (axis.xaxis, axis.yaxis):
            plain_log_ticks(each)
        axis.set_xlabel("ratio to SD-VAE-f8, paper")
    axes[0].set_ylabel("measured here")
    name_colours(figure, colours)
    protocol = rows[0].records["efficiency"].protocol["name"]
    footnote(figure, f"Here: {rows[0].device}, protocol {protocol}. Paper: H100.", *marks.notes)
    return figure


def draw_suite_figures(results: Iterable[Result], published: Published, folder: Path) -> list[Path]:
    """Write the figure of each protocol of denoisers as PNG and PDF. Returns the paths."""
    by_protocol: dict[str, list[Row]] = {}
    for row in rows_of(results):
        if row.cell.measures == "denoiser":
            by_protocol.setdefault(row.records["efficiency"].protocol["name"], []).append(row)
    written = []
    for protocol, group in by_protocol.items():
        written += save_figure(figure_ratios(group, published), folder, f"ratios-{protocol}", CAPTION)
    return written
