# SPDX-License-Identifier: Apache-2.0
"""From records to the lines of a figure: families of autoencoders, their colours, and points with errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dcae.benchmark.record import Record
from evaluation.figures.style import COLOURS, Line
from evaluation.published import Published
from evaluation.tables.comparability import Marks

SPACE_TO_CHANNEL = "space-to-channel"
FAMILY_COLOURS = {
    "DC-AE": COLOURS["blue"],
    "SD-VAE": COLOURS["vermillion"],
    SPACE_TO_CHANNEL: COLOURS["green"],
}
OTHER_COLOURS = [COLOURS[name] for name in ("purple", "orange", "sky blue")]


def stem(name: str) -> str:
    """The family in an autoencoder's name: "SD-VAE" of "SD-VAE-f32c32" and of "sd-vae-f8-demo"."""
    start = re.split(r"-f\d", name)[0]
    return {known.lower(): known for known in FAMILY_COLOURS}.get(start.lower(), start)


def family(record: Record) -> str:
    """Name of the series that an autoencoder belongs to."""
    if record.cell.get("autoencoder_kind") == SPACE_TO_CHANNEL:
        return SPACE_TO_CHANNEL
    return stem(record.cell.get("autoencoder_paper_name") or record.cell["autoencoder"])


def family_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each family: always the same for the known ones."""
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in FAMILY_COLOURS]
    free = {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: (FAMILY_COLOURS | free)[name] for name in names}


def is_ablation(record: Record) -> bool:
    """True for an autoencoder that lacks something on purpose."""
    return record.cell.get("group") == "ablations"


def has_row(record: Record) -> bool:
    """True for an autoencoder that the benchmark compares with all others, false for one of studies alone."""
    return record.cell.get("group") not in ("ablations", "bases")


def of_study(record: Record, study: str) -> bool:
    """False for a variant of another study, which may lack several things: it belongs to no series of this one."""
    return record.cell.get("study") in (None, study)


def bases(records: Iterable[Record], study: str) -> list[str]:
    """The autoencoders that the variants of a study are compared with."""
    named = (record.cell["base"] for record in records if record.cell.get("study") == study)
    return list(dict.fromkeys(named))


def one_for_each(field: str, records: Iterable[Record], preferred: Iterable[str] = ()) -> list[Record]:
    """One record for each value of a field of their cells: of the preferred autoencoders, else the first."""
    preferred = set(preferred)
    chosen: dict[object, Record] = {}
    for record in sorted(records, key=lambda record: record.cell["autoencoder"] not in preferred):
        chosen.setdefault(record.cell[field], record)
    return list(chosen.values())


def compression(record: Record) -> int:
    """The spatial compression f of the record's autoencoder."""
    return record.cell["spatial_compression"]


def resolutions(records: Iterable[Record]) -> dict[str, list[int]]:
    """The resolutions that each data set was reconstructed at, ascending."""
    found: dict[str, set[int]] = {}
    for record in records:
        if record.kind == "reconstruction":
            found.setdefault(record.cell["dataset"], set()).add(record.cell["resolution"])
    return {dataset: sorted(values) for dataset, values in found.items()}


def reconstructions(records: Iterable[Record], dataset: str, resolution: int) -> list[Record]:
    """The reconstruction records of one data set and resolution, without the controls."""
    place = dataset, resolution
    return [
        record
        for record in records
        if record.kind == "reconstruction"
        and record.number_class != "control"
        and (record.cell["dataset"], record.cell["resolution"]) == place
    ]


def line_over(
    field: str,
    records: Iterable[Record],
    metric: str,
    marks: Marks,
    name: str,
    colour: str,
    marker: str = "o",
    dashes: str = "-",
) -> Line:
    """A metric over a number in the records' cells, ascending; marked where it was measured otherwise."""
    ordered = sorted((record for record in records if metric in record.values), key=lambda record: record.cell[field])
    values = [(record.cell[field], record.values[metric]) for record in ordered]
    points = [(x, value.value, value.standard_error) for x, value in values]
    return Line(name, colour, points, marker, dashes, marks=[marks.of_record(record) for record in ordered])


def axis_title(title: str, records: Sequence[Record], metric: str) -> str:
    """A metric's name for an axis; names random features if any value comes from them."""
    random = any(record.values[metric].random_features for record in records if metric in record.values)
    return f"{title}\n[random features]" if random else title


def printed(published: Published, figure: str, autoencoder: str, resolution: int) -> str:
    """The rFID that the paper states for a figure, as printed there."""
    for value in published:
        if (value.table, value.autoencoder, value.resolution) == (figure, autoencoder, resolution):
            return f"{value.value:.{value.decimals}f}"
    return "–"
