# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of latents against the FID of diffusion models trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from dcae.benchmark.record import Value
from evaluation.figures.series import axis_title, compared_models, family, family_colours
from evaluation.figures.style import (
    Line,
    draw,
    footnote,
    label_points,
    name_colours,
    new_figure,
    say_not_run,
    styled,
)
from evaluation.published import Published
from evaluation.tables.comparability import marks_of_records
from evaluation.tables.rows import Result, display_name

FEWEST_RANKED = 4  # pairs below which a rank correlation says nothing
FID = "fid_without_guidance"
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}  # of diffusion models
PANELS = {
    "latent_effective_rank": "effective rank / c",
    "latent_high_frequencies": "high frequencies",
    "latent_flip_error": "flip error",
    "latent_scale_error": "scale error",
    "psnr_noise_0.2": "PSNR lost to noise 0.2 (dB)",
    "rfid_noise_0.2": "rFID with noise 0.2",
}


@dataclass(frozen=True)
class Pair:
    """A diagnostic of an autoencoder's latents, and the FID of a diffusion model on them."""

    x: float
    fid: Value
    family: str
    name: str
    marker: str
    mark: str


def _diagnostic(result: Result, name: str) -> float | None:
    values = result.values
    if name not in values:
        return None
    if name == "latent_effective_rank":
        return values[name].value / result.cell.latent_channels
    if name.startswith("psnr"):
        return values["psnr_noise_0"].value - values[name].value
    return values[name].value


@styled
def figure_latents(results: Sequence[Result], published: Published) -> Figure:
    """Draw FID without guidance over each diagnostic of the latents, of the same data and resolution."""
    generated = [each for each in results if each.kind == "generation" and FID in each.values]
    compared = compared_models(generated)
    generated = [each for each in generated if each.cell.diffusion in compared]
    marks = marks_of_records(each.record for each in generated)
    latents = {
        (each.cell.dataset, each.cell.resolution, each.cell.autoencoder): each
        for each in results
        if each.kind == "reconstruction"
    }
    figure, grid = new_figure(2, 3, 4.2)
    axes = [axis for row in grid for axis in row]
    colours = family_colours(map(family, generated))
    models = list(dict.fromkeys(display_name(each.cell, "diffusion") for each in generated))
    shapes = dict(zip(models, MARKERS, strict=False))
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        pairs = []
        for each in generated:
            of = latents.get((each.cell.dataset, each.cell.resolution, each.cell.autoencoder))
            x = _diagnostic(of, name) if of else None
            if x is not None:
                label = f"f{each.cell.spatial_compression}c{each.cell.latent_channels}"
                marker = shapes.get(display_name(each.cell, "diffusion"), "o")
                pairs.append(Pair(x, each.values[FID], family(each), label, marker, marks.of_record(each.record)))
        _panel(axis, pairs, colours)
        axis.set_xlabel(title)
    for row in grid:
        row[0].set_ylabel(axis_title("FID ↓", generated, FID))
    if generated:
        name_colours(figure, colours)
    named = ", ".join(f"{MARKERS[marker]}: {model}" for model, marker in shapes.items())
    told = f"FID without guidance. {named}. ρ: Spearman's rank correlation." if generated else ""
    footnote(figure, *filter(None, [told, *marks.notes]))
    return figure


def _panel(axis: Axes, pairs: Sequence[Pair], colours: dict[str, str]) -> None:
    if not pairs:
        say_not_run(axis)
        return
    for each in pairs:
        point = (each.x, each.fid.value, each.fid.standard_error)
        draw(axis, [Line(each.name, colours[each.family], [point], each.marker, "none", marks=[each.mark])])
    axis.margins(x=0.25, y=0.15)
    # One name for each autoencoder, at the highest of its points, which are above each other.
    highest = {(each.x, each.name): each for each in sorted(pairs, key=lambda pair: pair.fid.value)}
    named = highest.values()
    places = [(each.x, each.fid.value) for each in named]
    label_points(axis, places, [each.name for each in named], [colours[each.family] for each in named])
    if len({each.x for each in pairs}) >= FEWEST_RANKED:
        rho = spearmanr([each.x for each in pairs], [each.fid.value for each in pairs]).statistic
        axis.set_title(f"ρ = {rho:+.2f}, n = {len(pairs)}")
