# SPDX-License-Identifier: Apache-2.0
"""Quality against cost: one point for each result, and for each row that the paper prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.figures.series import family_colours
from evaluation.page.sources import Sources
from evaluation.published import Published, PublishedValue
from evaluation.tables.metrics import EFFICIENCY, FID, RECONSTRUCTION, Metric
from evaluation.tables.numbers import PRINTED_IN
from evaluation.tables.rows import Result, stem

LATENT_SIZE = "latent_size"
OF_SHAPES = {
    LATENT_SIZE: "Latent size (numbers per image)",
    "spatial_compression": "Spatial compression f",
    "tokens": "Tokens",
    "autoencoder_parameters": "Autoencoder params (M)",
}
QUALITIES: tuple[Metric, ...] = (*RECONSTRUCTION, *FID)
PRINTED = {str(place) for places in PRINTED_IN.values() for place in places}  # the paper's tables
SPEEDS = ("training_images_per_second", "inference_images_per_second")


@dataclass(frozen=True)
class Point:
    """A point of the plot.

    ``place``: dataset and resolution; ``qualities``: name to value, standard error and anchor of the source; ``costs``:
    name to value.
    """

    name: str
    place: str
    family: str
    qualities: dict[str, tuple[float, float | None, str]]
    costs: dict[str, float]
    own: bool = False
    published: bool = False


def scatter_data(results: Sequence[Result], published: Published, sources: Sources) -> dict[str, Any]:
    """Return the data of the plot as JSON has it: points, axes, colours, and the published place of each place."""
    points = [*_measured(results, sources), *_printed(published, results, sources)]
    used = {name for point in points for name in point.costs}
    costs = {**OF_SHAPES, **{metric.name: metric.title for metric in EFFICIENCY}}
    shown = [metric for metric in QUALITIES if any(metric.name in p.qualities for p in points if not p.published)]
    random = {name for each in results for name, value in each.values.items() if value.random_features}
    return {
        "points": [asdict(point) for point in points],
        "qualities": {m.name: m.title + m.arrow + " [random features]" * (m.name in random) for m in shown},
        "costs": {name: title for name, title in costs.items() if name in used},
        "colours": family_colours(point.family for point in points),
        "places": _places(results),
    }


def _paper_place(dataset: str | None, resolution: int | None) -> str:
    return f"paper: {dataset} at {resolution} px"


def _places(results: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """Return places with the paper's beside them, and whether a result is of the same data as those."""
    places: dict[str, dict[str, Any]] = {}
    for cell in (result.cell for result in results if result.kind != "efficiency"):
        place = places.setdefault(cell.place, {"paper": [], "same": False})
        if cell.published_dataset:
            paper = _paper_place(cell.published_dataset, cell.published_resolution)
            place["paper"] = list(dict.fromkeys([*place["paper"], paper]))
            place["same"] |= not cell.is_stand_in
    return places


def _measured(results: Sequence[Result], sources: Sources) -> list[Point]:
    """Reconstructions, also at the speed of each diffusion model on their latents, and samples."""
    by_cell = {each.cell.identity: each for each in results if each.kind == "efficiency"}
    points = []
    for result in results:
        cell, record = result.cell, result.record
        if result.kind == "efficiency" or result.is_control:
            continue
        qualities = {
            metric.name: (value.value, value.standard_error, sources.of_value(record, metric.name))
            for metric in QUALITIES
            if (value := result.values.get(metric.name)) and math.isfinite(value.value)
        }
        side = cell.resolution // cell.spatial_compression
        costs = {LATENT_SIZE: side * side * cell.latent_channels, "spatial_compression": cell.spatial_compression}
        if result.kind == "reconstruction":
            if "parameters" in result.values:
                costs["autoencoder_parameters"] = result.values["parameters"].value * 1e-6
            points.append(Point(cell.autoencoder, cell.place, cell.family, qualities, costs, cell.supplied))
            for each in by_cell.values():
                if (each.cell.autoencoder, each.cell.resolution) == (cell.autoencoder, cell.resolution):
                    name = f"{cell.autoencoder}, {each.cell.diffusion} p{each.cell.patch_size}"
                    speeds = {key: value for key, value in _speeds(each).items() if key in SPEEDS}
                    points.append(Point(name, cell.place, cell.family, qualities, speeds, cell.supplied))
        else:
            costs["tokens"] = cell.tokens
            costs |= _speeds(by_cell[cell.identity]) if cell.identity in by_cell else {}
            points.append(Point(cell.models, cell.place, cell.family, qualities, costs, cell.supplied))
    return points


def _speeds(result: Result) -> dict[str, float]:
    found = ((metric, result.values.get(metric.name)) for metric in EFFICIENCY)
    return {metric.name: value.value * metric.scale for metric, value in found if value and math.isfinite(value.value)}


def _printed(published: Published, results: Sequence[Result], sources: Sources) -> list[Point]:
    """Rows of the paper's tables at the places that results stand beside."""
    wanted = {paper for place in _places(results).values() for paper in place["paper"]}
    rows: dict[tuple, list[PublishedValue]] = {}
    for value in published:
        if value.table in PRINTED:
            rows.setdefault(value.row, []).append(value)
    points = []
    for values in rows.values():
        first, by_name = values[0], {value.column: value for value in values}
        place = _paper_place(first.dataset, first.resolution)
        found = {metric.name: by_name.get(metric.name) for metric in QUALITIES}
        qualities = {name: (value.value, None, sources.of_published(value)) for name, value in found.items() if value}
        if place not in wanted or not qualities:
            continue
        costs = {metric.name: by_name[metric.name].value for metric in EFFICIENCY if metric.name in by_name}
        if first.latent_shape:
            costs[LATENT_SIZE] = math.prod(map(int, first.latent_shape.split("x")))
        for name in ("spatial_compression", "tokens"):
            if (value := getattr(first, name)) is not None:
                costs[name] = value
        model = f"{first.diffusion} p{first.patch_size} on " if first.diffusion else ""
        name = f"{model}{first.autoencoder}, Table {first.table}" if first.table.isdigit() else first.autoencoder
        points.append(Point(name, place, stem(first.autoencoder), qualities, costs, published=True))
    return points
