# SPDX-License-Identifier: Apache-2.0
"""Figure 3 of the paper: the gain by residual shortcuts (a) and by the high-resolution phase (b).

Variants of other studies are in neither panel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.series import (
    axis_title,
    bases,
    compression,
    family,
    is_ablation,
    line_over,
    of_study,
    one_for_each,
    printed,
    reconstructions,
    resolutions,
)
from evaluation.figures.style import (
    COLOURS,
    Line,
    doubling_axis,
    draw,
    footnote,
    label_ends,
    log_if_positive,
    new_figure,
    say_not_run,
    styled,
)
from evaluation.published import Published
from evaluation.tables.comparability import Marks, marks_of_records
from evaluation.tables.rows import SPACE_TO_CHANNEL, Result

METRICS = {"rfid": "rFID ↓", "psnr": "PSNR (dB) ↑"}


def _rows(count: int) -> tuple[Figure, list[list[Axes]]]:
    """A row of two panels, rFID and PSNR, for each dataset."""
    figure, axes = new_figure(max(1, count), 2, 2.0 * max(1, count) + 0.25)
    if not count:
        for axis in axes[0]:
            say_not_run(axis)
    return figure, axes


def _finish(row: list[Axes], panels: list[list[Line]], positions: Sequence[int], names: Sequence[str]) -> None:
    """Draw the lines of the two panels of a row; the right one names them."""
    for axis, lines in zip(row, panels, strict=True):
        draw(axis, lines)
        log_if_positive(axis, lines)
        doubling_axis(axis, positions, names, margin=max(1.1, (max(positions) / min(positions)) ** 0.12))
    label_ends(row[1], panels[1])


# --- Figure 3a ---


def _shortcut_lines(results: Sequence[Result], metric: str, marks: Marks) -> list[Line]:
    here = [result for result in results if of_study(result, "shortcuts")]
    without = [result for result in here if result.cell.residual_shortcuts is False]
    without = one_for_each("spatial_compression", without)
    studied = bases(without, "shortcuts")
    whole = [result for result in here if not is_ablation(result)]
    if studied:  # other autoencoders may differ in more than their shortcuts
        whole = [result for result in whole if result.cell.autoencoder in studied]
    dc_ae = one_for_each("spatial_compression", [result for result in whole if family(result) == "DC-AE"])
    sd_vae = one_for_each("spatial_compression", _stacked(here) or [r for r in whole if family(r) == "SD-VAE"])
    series = [
        (dc_ae, "DC-AE", COLOURS["blue"]),
        (without, "DC-AE without shortcuts", COLOURS["orange"], "s", "--"),
        (sd_vae, "SD-VAE, stages stacked" if len(sd_vae) > 1 else "SD-VAE", COLOURS["vermillion"], "v"),
    ]
    for start, rearranged in _space_to_channel(here).items():
        below = [result for result in here if result.cell.autoencoder == start]
        name = f"f{compression(below[0])} and space-to-channel" if below else f"{start} and space-to-channel"
        series.append(([*below, *rearranged], name, COLOURS["green"], "D", ":"))
    return [line_over("spatial_compression", members, metric, marks, *look) for members, *look in series]


def _stacked(results: Sequence[Result]) -> list[Result]:
    """Results of the SD-VAEs of the study, and of those that are shown beside it."""
    of_this = [result for result in results if result.cell.study == "shortcuts" and family(result) == "SD-VAE"]
    beside = [r for r in results if "shortcuts" in (study for study, *_ in r.cell.beside)]
    return of_this and [*beside, *of_this]


def _space_to_channel(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of space-to-channel autoencoders, by the autoencoder that the operation follows."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if family(result) == SPACE_TO_CHANNEL:
            found.setdefault(result.cell.built_on, []).append(result)
    return found


@styled
def figure_3a(results: Sequence[Result], published: Published) -> Figure:
    """Draw rFID and PSNR over spatial compression, with and without residual shortcuts, and by space-to-channel."""
    places = {dataset: found[0] for dataset, found in resolutions(results).items()}
    figure, axes = _rows(len(places))
    marks = marks_of_records(result.record for place in places.items() for result in reconstructions(results, *place))
    for row, (dataset, resolution) in zip(axes, places.items(), strict=False):
        here = reconstructions(results, dataset, resolution)
        factors = sorted({compression(result) for result in here}) or [1]
        panels = [_shortcut_lines(here, metric, marks) for metric in METRICS]
        for axis, (metric, title) in zip(row, METRICS.items(), strict=True):
            axis.set(title=f"{dataset} {resolution} px", ylabel=axis_title(title, here, metric))
        _finish(row, panels, factors, [f"f{factor}" for factor in factors])
    for axis in axes[-1]:
        axis.set_xlabel("spatial compression")
    without, with_them = (printed(published, "figure 3a", f"f64 {how} residual shortcuts", 256)
                          for how in ("without", "with"))  # fmt: skip
    told = f"Paper, f64 at ImageNet 256 px: rFID {without} of stacked SD-VAE stages, {with_them} of DC-AE."
    footnote(figure, told, *marks.notes)
    return figure


# --- Figure 3b ---


def _shape(result: Result) -> tuple[int, int]:
    return compression(result), result.cell.latent_channels


def _resolution_lines(results: Sequence[Result], metric: str, marks: Marks) -> list[Line]:
    here = [result for result in results if of_study(result, "high-resolution")]
    dc_ae = [result for result in here if family(result) == "DC-AE" and result.cell.residual_shortcuts]
    without, whole_model = (
        [r for r in dc_ae if is_ablation(r) and r.cell.high_resolution_phase == trained] for trained in ("none", "all")
    )
    lines = []
    for shape, marker in zip(sorted(set(map(_shape, without))), itertools.cycle("os^D")):
        ablated = one_for_each("resolution", [result for result in without if _shape(result) == shape])
        whole = [result for result in dc_ae if not is_ablation(result) and _shape(result) == shape]
        adapted = one_for_each("resolution", whole, bases(ablated, "high-resolution"))
        size = f"DC-AE f{shape[0]}"
        lines += [
            line_over("resolution", adapted, metric, marks, f"{size} with high-res. phase", COLOURS["blue"], marker),
            line_over("resolution", ablated, metric, marks, f"{size} without", COLOURS["orange"], marker, "--"),
        ]
        everything = one_for_each("resolution", [result for result in whole_model if _shape(result) == shape])
        if everything:
            name = f"{size} with, on all layers"
            lines.append(line_over("resolution", everything, metric, marks, name, COLOURS["purple"], marker, ":"))
    f8 = [result for result in here if family(result) == "SD-VAE" and compression(result) == 8]
    f8 = one_for_each("resolution", [result for result in f8 if not is_ablation(result)])
    return [*lines, line_over("resolution", f8, metric, marks, "SD-VAE f8", COLOURS["vermillion"], "v")]


@styled
def figure_3b(results: Sequence[Result], published: Published) -> Figure:
    """Draw rFID and PSNR at low and high resolution, with and without the high-resolution phase."""
    places = {dataset: found for dataset, found in resolutions(results).items() if len(found) > 1}
    figure, axes = _rows(len(places))
    shown = {
        dataset: [result for resolution in found for result in reconstructions(results, dataset, resolution)]
        for dataset, found in places.items()
    }
    marks = marks_of_records(result.record for here in shown.values() for result in here)
    for row, (dataset, found) in zip(axes, places.items(), strict=False):
        here = shown[dataset]
        panels = [_resolution_lines(here, metric, marks) for metric in METRICS]
        for axis, (metric, title) in zip(row, METRICS.items(), strict=True):
            axis.set(title=dataset, ylabel=axis_title(title, here, metric))
        _finish(row, panels, found, [f"{resolution} px" for resolution in found])
    without, f8 = ([printed(published, "figure 3b", name, resolution) for resolution in (256, 1024)]
                   for name in ("f64 without high-resolution phase", "f8"))  # fmt: skip
    adapted = printed(published, "figure 3b", "f64 with high-resolution phase", 1024)
    footnote(
        figure,
        f"Paper, rFID at 256 and 1024 px: f64 {without[0]} and {without[1]}, with high-resolution phase {adapted} at "
        f"1024 px; f8 {f8[0]} and {f8[1]}.",
        *marks.notes,
    )
    return figure
