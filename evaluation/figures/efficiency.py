# SPDX-License-Identifier: Apache-2.0
"""How many times as fast as on SD-VAE-f8 a diffusion model is: measured here over the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dcae.benchmark.record import Record
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
from evaluation.tables.efficiency import mixed_protocols
from evaluation.tables.efficiency_ratios import paper_ratio, ratio_to_base
from evaluation.tables.rows import device_name

PANELS = {"training_images_per_second": "Training", "inference_images_per_second": "Inference"}
CAPTION = (
    "Speed of diffusion models on each autoencoder's latents, as a ratio to the SD-VAE-f8 row with the most tokens: "
    "measured here over the paper's. On the line the paper's ratios reproduce."
)


@styled
def figure_ratios(records: Sequence[Record], published: Published) -> Figure:
    """A panel for training and one for inference, a colour for each diffusion model."""
    figure, [axes] = new_figure(1, len(PANELS), 2.7)
    compared = [record for record in records if any(ratio_to_base(record, name, records) for name in PANELS)]
    models = list(dict.fromkeys(record.cell["diffusion_paper_name"] for record in compared))
    colours = dict(zip(models, list(COLOURS.values()), strict=False))
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        pairs = [
            (record.cell["diffusion_paper_name"], paper_ratio(record, name, records, published),
             ratio_to_base(record, name, records))
            for record in records
        ]  # fmt: skip
        known = [(model, paper, here) for model, paper, here in pairs if paper and here]
        axis.set_title(title)
        if not known:
            say_not_run(axis)
            continue
        lines = [
            Line(
                model, colours[model], [(paper, here, None) for of, paper, here in known if of == model], dashes="none"
            )
            for model in models
        ]
        ends = [value for _, *both in known for value in both]
        low, high = min(ends) / 1.3, max(ends) * 1.3
        axis.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        draw(axis, lines)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        for each in (axis.xaxis, axis.yaxis):
            plain_log_ticks(each)
        axis.set_xlabel("ratio to SD-VAE-f8, paper")
    axes[0].set_ylabel("measured here")
    name_colours(figure, colours)
    protocol = records[0].protocol["name"]
    footnote(figure, f"Here: {device_name(records[0])}, protocol {protocol}. Paper: H100.", *mixed_protocols(records))
    return figure


def draw_suite_figures(records: Sequence[Record], published: Published, folder: Path) -> list[Path]:
    """The figure of each protocol of denoisers that there are records of, as PNG and PDF. Returns the paths."""
    by_protocol: dict[str, list[Record]] = {}
    for record in records:
        if record.cell["measures"] == "denoiser":
            by_protocol.setdefault(record.protocol["name"], []).append(record)
    written = []
    for protocol, group in by_protocol.items():
        figure = figure_ratios(group, published)
        written += save_figure(figure, folder, f"ratios-{protocol}", CAPTION)
    return written
