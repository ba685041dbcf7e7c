# SPDX-License-Identifier: Apache-2.0
"""The numbers of one column: measured ones with error, ratio, bold and mark, and the paper's beside them."""

from __future__ import annotations

import math
from dataclasses import replace

from dcae.benchmark.record import Record
from evaluation.metrics.paired import Comparison
from evaluation.published import Published, PublishedValue
from evaluation.tables.comparability import Marks
from evaluation.tables.formats import Number
from evaluation.tables.metrics import Metric
from evaluation.tables.paired import PerImageOfCells, compare_records
from evaluation.tables.rows import RE_EVALUATED, REPRODUCED, Row

# Where the FIDs of a row of Table 1 are printed: in that table, or else in Table 3 (the row f32 p1 of DiT-XL). Those of
# Table 3: there, or else in the README of the authors' code, which has released models that are not in the paper.
PRINTED_IN: dict[int, tuple[int | str, ...]] = {1: (1, 3), 2: (2,), 3: (3, "readme"), 4: (4,), 5: (5,)}
# Standard errors of a difference from which two values count as different.
DISTINGUISHABLE = 2.0

NOTHING = Number(None, missing="–")


# --- measured and printed ---


def excluded(record: Record, name: str) -> Number:
    """In place of a value that a record lacks: nothing if nobody asked for it, or that it was left out."""
    return Number(None, missing="left out") if name in record.excluded else NOTHING


def _base_of_ratio(row: Row, rows: list[Row]) -> Row | None:
    """The f8 p2 row that a speed is divided by: same data, diffusion model and device, SD-VAE before others."""
    bases = [
        base
        for base in rows
        if base.cell.get("spatial_compression") == 8
        and base.patch_size == 2
        and (base.setting, base.device) == (row.setting, row.device)
    ]
    return min(bases, key=lambda base: base.cell.get("autoencoder_paper_name") != "SD-VAE-f8", default=None)


def _measured(row: Row, metric: Metric, random: bool, rows: list[Row]) -> Number:
    value = row.value(metric.kind, metric.name)
    if value is None:
        record = row.records.get(metric.kind)
        return excluded(record, metric.name) if record else Number(None, missing="not run")
    if value.random_features != random:
        return NOTHING
    base = _base_of_ratio(row, rows) if metric.ratio else None
    reference = base.value(metric.kind, metric.name) if base else None
    return Number(
        value.value * metric.scale,
        metric.decimals,
        standard_error=None if value.standard_error is None else value.standard_error * metric.scale,
        n=value.n,
        ratio=value.value / reference.value if reference else None,
    )


def marked_numbers(metric: Metric, random: bool, rows: list[Row], marks: Marks) -> list[Number]:
    """A row's measured number each, from random features or not, with the marks of how it was measured.

    A value of the other kind of features prints "–", one without a record "not run".
    """
    numbers = [_measured(row, metric, random, rows) for row in rows]
    for index, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        if number.value is not None:
            numbers[index] = replace(number, mark=marks.of_record(row.records[metric.kind]))
    return numbers


def measured_numbers(
    table: int,
    metric: Metric,
    random: bool,
    rows: list[Row],
    marks: Marks,
    per_image: PerImageOfCells,
) -> list[Number]:
    """The numbers of ``marked_numbers``, the best ones bold."""
    return _with_bold(table, rows, marked_numbers(metric, random, rows, marks), metric, per_image)


def paper_value(row: Row, metric: Metric, published: Published, table: int) -> PublishedValue | None:
    """The paper's number beside a measured one."""
    found = (row.published(published, place, metric.published_name) for place in PRINTED_IN[table])
    return next(filter(None, found), None)


def paper_number(row: Row, metric: Metric, published: Published, table: int) -> Number:
    """The paper's number with its printed decimals, and its ratio to SD-VAE-f8 p2 where the metric has one."""
    value = paper_value(row, metric, published, table)
    if value is None:
        return NOTHING
    base = published.find(
        value.table, metric.published_name, dataset=value.dataset, resolution=value.resolution,
        autoencoder="SD-VAE-f8", diffusion=value.diffusion, patch_size=2,
    )  # fmt: skip
    ratio = value.value / base.value if metric.ratio and base else None
    return Number(value.value, value.decimals, printed=True, ratio=ratio)


# --- bold: the best value among comparable rows, if it stands out ---


def _comparable(table: int, row: Row, kind: str, n: int | None) -> tuple:
    """Rows share this if the best among them may be set in bold: as the paper compares them, and measured alike."""
    record = row.records[kind]
    beside = {
        1: row.cell.get("tokens"),
        2: (row.cell.get("spatial_compression"), row.cell.get("latent_channels")),
    }
    measured = record.protocol_fingerprint, record.dataset_fingerprint, None if kind == "efficiency" else n
    return row.heading, row.setting, beside.get(table, row.device), measured


def _distinguishable(best: Number, other: Number, paired: Comparison | None) -> bool:
    if paired:
        return paired.verdict == "better"
    if best.standard_error is None or other.standard_error is None:
        return False
    error = math.hypot(best.standard_error, other.standard_error)
    return abs(best.value - other.value) > DISTINGUISHABLE * error


def _paired(best: Row, other: Row, metric: Metric, per_image: PerImageOfCells) -> Comparison | None:
    """Of reconstructions of the same images; samples of diffusion models are independent."""
    if metric.kind != "reconstruction":
        return None
    return compare_records(best.records[metric.kind], other.records[metric.kind], metric, per_image)


def _with_bold(
    table: int, rows: list[Row], numbers: list[Number], metric: Metric, per_image: PerImageOfCells
) -> list[Number]:
    groups: dict[tuple, list[int]] = {}
    for index, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        contends = row.heading in (REPRODUCED, RE_EVALUATED) and metric.better is not None
        if contends and number.value is not None and math.isfinite(number.value):
            groups.setdefault(_comparable(table, row, metric.kind, number.n), []).append(index)
    result = list(numbers)
    for indices in groups.values():
        ordered = sorted(indices, key=lambda i: numbers[i].value, reverse=metric.better == "higher")
        if len(ordered) < 2:
            continue
        best, next_best = ordered[:2]
        paired = _paired(rows[best], rows[next_best], metric, per_image)
        if _distinguishable(numbers[best], numbers[next_best], paired):
            result[best] = replace(result[best], bold=True)
    return result
