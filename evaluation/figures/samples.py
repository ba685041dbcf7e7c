# SPDX-License-Identifier: Apache-2.0
"""Sample grids like Figures 7 and 8 of the paper, from the PNG grids written by ``evaluation.quality.image_grid``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dcae.benchmark.record import Value
from evaluation.figures.series import has_row
from evaluation.figures.style import GREY, WIDTH, say_not_run, styled
from evaluation.quality.image_grid import read_grid
from evaluation.tables.comparability import marks_of_records
from evaluation.tables.rows import Result

GridOf = Callable[[Result], Path]
"""Path of a result's PNG grid of samples."""

LABEL_WIDTH = 1.15
TILES = 6
SAMPLES = 4  # of each setting
PROMPT = {
    "fontsize": 4.5,
    "ha": "center",
    "va": "bottom",
    "linespacing": 1.0,
    "bbox": {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
}


@dataclass(frozen=True)
class Strip:
    """One row of a sample figure: a name, a remark below it, and blocks of images [K, R, R, 3] side by side.

    ``prompts``: written on the images of each block.
    """

    name: str
    remark: str
    blocks: list[np.ndarray]
    prompts: Sequence[str] = ()


def _tile(strips: Sequence[Strip], titles: Sequence[str]) -> Figure:
    """Strips below each other, each block of columns under its title; the strip with most blocks gives their sizes."""
    counts = [len(block) for block in max(strips, key=lambda strip: len(strip.blocks)).blocks]
    gap = 0.08
    side = (WIDTH - LABEL_WIDTH - gap * len(counts)) / sum(counts)
    height = side * len(strips) + 0.25
    figure = Figure(figsize=(WIDTH, height))
    for row, strip in enumerate(strips):
        bottom = height - 0.25 - side * (row + 1)
        name = textwrap.fill(strip.name, 21, break_on_hyphens=True)
        figure.text(0.002, (bottom + 0.54 * side) / height, name, fontsize=6.5, va="bottom", linespacing=1.05)
        figure.text(0.002, (bottom + 0.46 * side) / height, strip.remark, fontsize=6, va="top", color=GREY)
        left = LABEL_WIDTH
        for block in strip.blocks:
            place = (left / WIDTH, bottom / height, side * len(block) / WIDTH, side / height)
            axis = figure.add_axes(place)
            axis.imshow(np.concatenate(list(block), axis=1), aspect="auto")
            axis.set_axis_off()
            for column, prompt in enumerate(strip.prompts):
                axis.text((column + 0.5) / len(block), 0.02, prompt, transform=axis.transAxes, **PROMPT)
            left += side * len(block) + gap
    left = LABEL_WIDTH
    for count, title in zip(counts, titles, strict=False):
        figure.text((left + side * count / 2) / WIDTH, 1 - 0.06 / height, title, ha="center", va="top", fontsize=8)
        left += side * count + gap
    return figure


def _nothing() -> Figure:
    figure = Figure(figsize=(WIDTH, 1.0))
    say_not_run(figure.add_subplot())
    return figure


def _measured(name: str, value: Value | None, decimals: int) -> str:
    return f"{name} {value.value:.{decimals}f}" if value else ""


@styled
def figure_reconstruction_samples(results: Sequence[Result], grid_of: GridOf) -> Figure:
    """Draw validation images and their reconstructions, at each dataset's highest resolution, f ascending."""
    chosen = [
        result for result in results if result.kind == "reconstruction" and not result.is_control and has_row(result)
    ]
    places = {result.cell.dataset: 0 for result in chosen}
    for result in chosen:
        places[result.cell.dataset] = max(places[result.cell.dataset], result.cell.resolution)
    marks = marks_of_records(result.record for result in chosen)
    grids: dict[str, dict[str, tuple[np.ndarray, str]]] = {}
    for result in sorted(chosen, key=lambda result: result.cell.spatial_compression):
        dataset, resolution, name, *_ = result.cell.identity
        path = grid_of(result)
        if places[dataset] == resolution and path.is_file():
            # A number that was measured otherwise than the others is left to the tables, which say how.
            psnr = " –" if marks.of_record(result.record) else _measured("", result.values.get("psnr"), 1)
            grids.setdefault(name, {})[dataset] = read_grid(path, resolution), psnr
    shown = [dataset for dataset in places if any(dataset in found for found in grids.values())]
    if not shown:
        return _nothing()
    count = max(1, TILES // len(shown))
    complete = {name: found for name, found in grids.items() if all(dataset in found for dataset in shown)}
    first = next(iter(complete.values()))
    strips = [Strip("original", "", [first[dataset][0][0][:count] for dataset in shown])]
    for name, found in complete.items():
        remark = "PSNR" + " /".join(found[dataset][1] for dataset in shown) + " dB"
        strips.append(Strip(name, remark, [found[dataset][0][1][:count] for dataset in shown]))
    return _tile(strips, [f"{dataset} {places[dataset]} px" for dataset in shown])


@styled
def figure_generation_samples(results: Sequence[Result], grid_of: GridOf) -> Figure:
    """Draw samples without and with guidance; each row one diffusion model on the latents of one autoencoder."""
    strips = []
    order = list(dict.fromkeys(result.cell.diffusion for result in results))
    chosen = [result for result in results if result.kind == "generation"]
    for result in sorted(chosen, key=lambda r: (order.index(r.cell.diffusion), r.cell.spatial_compression)):
        cell = result.cell
        path = grid_of(result)
        if path.is_file():
            grid, prompts = read_grid(path, cell.resolution), result.record.prompts
            chosen_samples = _of_different_prompts(prompts, grid.shape[1])
            blocks = [row[chosen_samples] for row in grid[:2]]
            shortened = [_on_a_tile(prompts[k]) for k in chosen_samples if prompts]
            strips.append(Strip(f"{cell.autoencoder} p{cell.patch_size}", cell.diffusion, blocks, shortened))
    return _tile(strips, ["without guidance", "with guidance"]) if strips else _nothing()


def _on_a_tile(prompt: str) -> str:
    """Return a prompt's beginning as two lines that a sample's width holds."""
    return textwrap.fill(textwrap.shorten(prompt, 30, placeholder=" …"), 16)


def _of_different_prompts(prompts: Sequence[str], count: int) -> list[int]:
    """Return the first sample of each prompt, then others, in their order: as many as a figure shows."""
    prompts = prompts or [""] * count
    first = [k for k in range(count) if prompts.index(prompts[k]) == k][:SAMPLES]
    return sorted([*first, *(k for k in range(count) if k not in first)][:SAMPLES])
