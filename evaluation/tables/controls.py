# SPDX-License-Identifier: Apache-2.0
"""Checks of the controls, autoencoders with known scores: identity, blur and mean colour.

The identity must be perfect, the blur worse than the identity, and one mean colour worse than the blur, in every
metric. A metric that misplaces them is broken, whatever it says about the other autoencoders. The mean PSNR leaves out
pictures that came back unchanged: more of these are better, and infinite on all pictures equals infinite on all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dcae.benchmark.record import Record, Value
from evaluation.metrics.registry import FID, IMAGE_METRICS, QualityMetric, SetMetric
from evaluation.tables.formats import Number, format_number
from evaluation.tables.metrics import Metric
from evaluation.tables.rows import Row

BEATEN = "§"  # mark of a value that a control beats
IDENTITY = "identity"
CONTROLS = (IDENTITY, "blur", "mean-colour")
CHECKED: tuple[QualityMetric, ...] = (FID.of_reconstructions(), *IMAGE_METRICS)

# The Fréchet distance of equal features is zero up to rounding, which grows with the features; a thousandth of the
# worst control's distance is far above it and far below any real one.
FID_TOLERANCE = 1e-3
# LPIPS of equal images is a mean over float32 maps.
FLOAT32_TOLERANCE = 1e-5


@dataclass(frozen=True)
class ControlCheck:
    """One expectation about the value of a control, the value found, and whether the expectation holds."""

    dataset: str
    resolution: int
    control: str
    metric: str
    expected: str
    found: str
    holds: bool

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "BROKEN"
        where = f"{self.dataset} {self.resolution} px"
        return f"{verdict}: {self.control} on {where}: expected {self.metric} {self.expected}, found {self.found}"


def check_controls(records: Iterable[Record], metrics: Sequence[QualityMetric] = CHECKED) -> list[ControlCheck]:
    """Check every expectation about the controls, for each dataset and resolution that has any of them.

    A control that is missing where others are present counts as broken, since it cannot be checked. Returns an empty
    list if there are no controls at all.
    """
    places: dict[tuple[str, int], dict[str, Record]] = {}
    for record in records:
        if record.kind == "reconstruction" and record.number_class == "control":
            place = record.cell["dataset"], record.cell["resolution"]
            places.setdefault(place, {})[record.cell["autoencoder"]] = record
    return [check for place, found in places.items() for check in _check_place(place, found, metrics)]


def _check_place(
    place: tuple[str, int], records: dict[str, Record], metrics: Sequence[QualityMetric]
) -> list[ControlCheck]:
    checks = [
        ControlCheck(*place, name, "values", "to be there", "no record", False)
        for name in CONTROLS
        if name not in records
    ]
    for metric in metrics:
        found = {name: record.values.get(metric.name) for name, record in records.items()}
        values = {name: value for name, value in found.items() if value}
        if "identity" in values:
            checks.append(_check_perfect(place, metric, {name: value.value for name, value in values.items()}))
        for worse, better in (("blur", "identity"), ("mean-colour", "blur")):
            if worse in values and better in values:
                checks.append(_check_order(place, metric, worse, better, values))
    return checks


def _check_perfect(place: tuple[str, int], metric: QualityMetric, values: dict[str, float]) -> ControlCheck:
    found, perfect = values["identity"], metric.perfect
    is_distance = isinstance(metric, SetMetric)
    tolerance = FID_TOLERANCE * max(map(abs, values.values())) if is_distance else FLOAT32_TOLERANCE
    holds = found == perfect or abs(found - perfect) <= tolerance
    return ControlCheck(*place, "identity", metric.name, f"{perfect:g}", f"{found:.6g}", holds)


def _check_order(
    place: tuple[str, int], metric: QualityMetric, worse: str, better: str, values: dict[str, Value]
) -> ControlCheck:
    lower = metric.better == "lower"
    a, b = values[worse], values[better]
    if math.isinf(a.value) and math.isinf(b.value):
        holds = True
    elif a.unchanged != b.unchanged:
        holds = a.unchanged < b.unchanged
    else:
        holds = a.value > b.value if lower else a.value < b.value
    expected = f"{'above' if lower else 'below'} that of {better} ({b.value:.6g})"
    return ControlCheck(*place, worse, metric.name, expected, f"{a.value:.6g}", holds)


def beaten_by_controls(rows: Sequence[Row], metric: Metric) -> dict[int, list[str]]:
    """Return the reconstructions that controls beat in a metric, by position, with the names of these controls.

    Left out is the identity, which nothing reaches. A control of a latent shape, such as block PCA, is compared with
    autoencoders of that shape alone; blur and mean colour with all.
    """
    if metric.better is None or metric.kind != "reconstruction":
        return {}
    controls: dict[tuple, list[tuple[Row, Value]]] = {}
    for row in rows:
        value = row.value(metric.kind, metric.name)
        if value and row.records[metric.kind].number_class == "control" and row.cell.autoencoder != IDENTITY:
            controls.setdefault(_measured_as(row, metric, value), []).append((row, value))
    found = {}
    for index, row in enumerate(rows):
        value = row.value(metric.kind, metric.name)
        if value is None or row.records[metric.kind].number_class == "control":
            continue
        names = [
            control.cell.autoencoder
            for control, best in controls.get(_measured_as(row, metric, value), [])
            if (control.cell.autoencoder in CONTROLS or _shape(control) == _shape(row))
            and (best.value > value.value if metric.better == "higher" else best.value < value.value)
        ]
        if names:
            found[index] = names
    return found


def _shape(row: Row) -> tuple:
    return row.cell.spatial_compression, row.cell.latent_channels


def _measured_as(row: Row, metric: Metric, value: Value) -> tuple:
    record = row.records[metric.kind]
    measured = record.protocol_fingerprint, record.dataset_fingerprint, value.n, value.random_features
    return *row.setting, row.cell.tokens, *measured


def losses(rows: Sequence[Row], metrics: Iterable[Metric]) -> str | None:
    """Return one sentence on the rows that lose to controls; ``None`` if none does."""
    found: dict[str, dict[str, list[str]]] = {}
    for metric in metrics:
        for index, names in beaten_by_controls(rows, metric).items():
            name = f"{rows[index].cell.autoencoder} on {rows[index].cell.place}"
            found.setdefault(name, {})[metric.title] = names
    if not found:
        return None
    listed = [
        f"{name} ({'; '.join(f'{title}: ' + ', '.join(names) for title, names in of.items())})"
        for name, of in found.items()
    ]
    return f"{BEATEN}: worse than a control. {len(found)} rows are: {', '.join(listed)}."


def bounds_of_samples(rows: Sequence[Row]) -> list[str]:
    """Return one note for each place whose records have ``generation_controls``: the FID that samples can reach."""
    real: dict[str, Value] = {}
    floors: dict[str, dict[str, Value]] = {}
    for row in rows:
        found = row.value("generation", f"{FID.name}_of_real_images")
        floor = row.value("generation", f"{FID.name}_of_autoencoded_images")
        if found and floor:
            real[row.cell.place] = found
            floors.setdefault(row.cell.place, {})[row.cell.autoencoder] = floor
    return [
        f"{FID.heading} on {place} of {real[place].n:,} real images that are not in the reference: "
        f"{_told(real[place])}; the same images autoencoded, the least that samples can have: "
        + ", ".join(f"{name} {_told(value)}" for name, value in found.items())
        + "."
        for place, found in floors.items()
    ]


def _told(value: Value) -> str:
    return format_number(Number(value.value, FID.decimals, standard_error=value.standard_error))


def verdict(checks: list[ControlCheck]) -> str:
    """Return one sentence for the tables, in capitals if anything is broken."""
    if not checks:
        return "NO CONTROLS were run: nothing here vouches for the metrics."
    broken = [check for check in checks if not check.holds]
    if not broken:
        return f"Controls land where they belong: all {len(checks)} expectations hold."
    listed = "; ".join(str(check) for check in broken)
    return f"CONTROLS BROKEN: do not trust this table. {len(broken)} of {len(checks)} expectations fail: {listed}."
