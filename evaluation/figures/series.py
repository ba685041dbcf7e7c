# SPDX-License-Identifier: Apache-2.0
"""From results to the lines of a figure: families of autoencoders, their colours, and points with errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.figures.style import COLOURS, Line
from evaluation.published import Published
from evaluation.tables.comparability import Marks
from evaluation.tables.rows import SPACE_TO_CHANNEL, Result

FAMILY_COLOURS = {
    "DC-AE": COLOURS["blue"],
    "SD-VAE": COLOURS["vermillion"],
    SPACE_TO_CHANNEL: COLOURS["green"],
}
OTHER_COLOURS = [COLOURS[name] for name in ("purple", "orange", "sky blue")]


def family(result: Result) -> str:
    """Return the name of the series that an autoencoder belongs to."""
    return result.cell.family


def family_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each family, always the same for the known ones."""
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in FAMILY_COLOURS]
    free = {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: (FAMILY_COLOURS | free)[name] for name in names}


def is_ablation(result: Result) -> bool:
    """Return whether an autoencoder is an ablation."""
    return result.cell.group == "ablations"


def has_row(result: Result) -> bool:
    """Return whether an autoencoder is compared with all others, not in studies alone."""
    return result.cell.group not in ("ablations", "bases")


def of_study(result: Result, study: str) -> bool:
    """Return whether an autoencoder belongs to a series of a study; variants of other studies do not."""
    return result.cell.study in (None, study)


def bases(results: Iterable[Result], study: str) -> list[str]:
    """Return the autoencoders that the variants of a study are compared with."""
    named = (result.cell.base for result in results if result.cell.study == study)
    return list(dict.fromkeys(named))


def one_for_each(field: str, results: Iterable[Result], preferred: Iterable[str] = ()) -> list[Result]:
    """Return one result for each value of a field of their cells: of a preferred autoencoder, else the first."""
    preferred = set(preferred)
    chosen: dict[object, Result] = {}
    for result in sorted(results, key=lambda result: result.cell.autoencoder not in preferred):
        chosen.setdefault(getattr(result.cell, field), result)
    return list(chosen.values())


def compression(result: Result) -> int:
    """Return the spatial compression f of an autoencoder."""
    return result.cell.spatial_compression


def resolutions(results: Iterable[Result]) -> dict[str, list[int]]:
    """Return the resolutions that each dataset was reconstructed at, ascending."""
    found: dict[str, set[int]] = {}
    for result in results:
        if result.kind == "reconstruction":
            found.setdefault(result.cell.dataset, set()).add(result.cell.resolution)
    return {dataset: sorted(values) for dataset, values in found.items()}


def reconstructions(results: Iterable[Result], dataset: str, resolution: int) -> list[Result]:
    """Return the reconstructions of one dataset and resolution, without the controls."""
    place = dataset, resolution
    return [
        result
        for result in results
        if result.kind == "reconstruction"
        and not result.is_control
        and (result.cell.dataset, result.cell.resolution) == place
    ]


def compared_models(results: Iterable[Result]) -> set[str]:
    """Return the diffusion models with several autoencoders or patch sizes, all if none has; without controls."""
    found: dict[str, set[tuple[str, int]]] = {}
    for result in results:
        if result.kind == "generation" and not result.is_control:
            found.setdefault(result.cell.diffusion, set()).add((result.cell.autoencoder, result.cell.patch_size))
    return {name for name, pairings in found.items() if len(pairings) > 1} or set(found)


def line_over(
    field: str,
    results: Iterable[Result],
    metric: str,
    marks: Marks,
    name: str,
    colour: str,
    marker: str = "o",
    dashes: str = "-",
) -> Line:
    """Return the line of a metric over a field of the cells, ascending; other ways of measuring are marked."""
    ordered = sorted(
        (result for result in results if metric in result.values), key=lambda result: getattr(result.cell, field)
    )
    values = [(getattr(result.cell, field), result.values[metric]) for result in ordered]
    points = [(x, value.value, value.standard_error) for x, value in values]
    return Line(name, colour, points, marker, dashes, marks=[marks.of_record(result.record) for result in ordered])


def axis_title(title: str, results: Sequence[Result], metric: str) -> str:
    """Return a metric's name for an axis, with a note on random features if any value comes from them."""
    random = any(result.values[metric].random_features for result in results if metric in result.values)
    return f"{title}\n[random features]" if random else title


def printed(published: Published, figure: str, autoencoder: str, resolution: int) -> str:
    """Return the rFID that the paper states for a figure, as printed there; second-hand numbers say so."""
    for value in published:
        if (value.table, value.autoencoder, value.resolution) == (figure, autoencoder, resolution):
            return f"{value.value:.{value.decimals}f}" + (" (second-hand)" if value.second_hand else "")
    return "–"
