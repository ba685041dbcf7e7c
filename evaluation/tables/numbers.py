# SPDX-License-Identifier: Apache-2.0
"""The numbers of a column: measured ones with error, ratio, bold and marks, and the paper's beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dcae.benchmark.record import DISAGREEMENT, Record, Value
from evaluation.metrics.paired import Comparison
from evaluation.published import Published, PublishedValue
from evaluation.tables.comparability import Marks
from evaluation.tables.controls import BEATEN, beaten_by_controls
from evaluation.tables.formats import Column, Number, Source
from evaluation.tables.metrics import Metric
from evaluation.tables.paired import PerImageOfCells, compare_results
from evaluation.tables.rows import RE_EVALUATED, REPRODUCED, SUPPLIED, Result, Row, TableCell

# Where the FIDs of a row of Table 1 are printed: in that table, or else in Table 3 (the row f32 p1 of DiT-XL). Those of
# Table 3: there, or else in the README of the authors' code, which has released models that are not in the paper.
PRINTED_IN: dict[int, tuple[int | str, ...]] = {1: (1, 3), 2: (2,), 3: (3, "readme"), 4: (4,), 5: (5,)}
# Standard errors of a difference from which two values count as different.
DISTINGUISHABLE = 2.0
SD_VAE_F8 = "SD-VAE-f8"

NOTHING = Number(None, missing="–")
UNSTEADY, SECOND_HAND = "u", "s"
UNSTEADY_NOTE = f"{UNSTEADY}: repeats of this value differ by more than {DISAGREEMENT:.0%}, the device was not quiet."
SECOND_HAND_NOTE = f"{SECOND_HAND}: second-hand, from public notes on the ICLR version of the paper."


# --- columns ---


def measured_column(
    metric: Metric, random: bool = False, ratio: str | None = None, images: Sequence[int] = ()
) -> Column:
    """The column of a metric; ``random``: of values from random feature networks; ``images``: counts for its title."""
    suffix = " [random features]" if random else ""
    counts = sorted(set(images))
    counted = f" N {counts[0]:,}" + (f"–{counts[-1]:,}" if len(counts) > 1 else "") if counts else ""
    return Column(metric.title + suffix, metric.title + metric.arrow + suffix + counted, measured=True, ratio=ratio)


def paper_column(metric: Metric, ratio: str | None = None) -> Column:
    """The column of the paper's numbers, right of the measured ones."""
    return Column(f"{metric.title}, paper", "paper", ratio=ratio)


def seeds_column(cells: Iterable[TableCell]) -> tuple[Column, list[str]]:
    """The number of trainings whose mean a row is, printed if any row has several."""
    counts = [cell.seeds for cell in cells]
    return Column("Seeds", "Seeds", printed=any(count > 1 for count in counts)), [str(count) for count in counts]


def kinds_of_features(metric: Metric, rows: Iterable[Row]) -> list[bool]:
    """Whether values come from random features: one measured column for each answer that occurs."""
    values = (row.value(metric.kind, metric.name) for row in rows)
    return sorted({value.random_features for value in values if value}) or [False]


def has_paper_column(metric: Metric, rows: Iterable[Row]) -> bool:
    """Whether the paper's numbers stand beside a metric: not where all values come from random features."""
    return kinds_of_features(metric, rows) != [True]


# --- measured and printed ---


def base_of(row: Row, candidates: Iterable[Row]) -> Row | None:
    """The candidate that a speed is divided by: same data, diffusion model and device.

    SD-VAE-f8 before other autoencoders, then the one with the most tokens.
    """
    alike = [each for each in candidates if (each.setting, each.device) == (row.setting, row.device)]
    order = lambda each: (each.cell.autoencoder_paper_name != SD_VAE_F8, -(each.cell.tokens or 0))  # noqa: E731
    return min(alike, key=order, default=None)


def ratio_to_base(row: Row, metric: Metric, candidates: Iterable[Row]) -> float | None:
    """A row's value over that of its base."""
    base = base_of(row, candidates)
    ours, theirs = (each.value(metric.kind, metric.name) if each else None for each in (row, base))
    return ours.value / theirs.value if ours and theirs and theirs.value else None


def paper_value(row: Row, metric: Metric, published: Published, table: int) -> PublishedValue | None:
    """The paper's number for a row of a table."""
    found = (row.published(published, place, metric.published_name) for place in PRINTED_IN[table])
    return next(filter(None, found), None)


def paper_ratio(value: PublishedValue, published: Published, patch_size: int) -> float | None:
    """A printed number over that of SD-VAE-f8 at a patch size, in the same table, data and diffusion model."""
    base = published.find(
        value.table, value.column, dataset=value.dataset, resolution=value.resolution, autoencoder=SD_VAE_F8,
        diffusion=value.diffusion, patch_size=patch_size,
    )  # fmt: skip
    return value.value / base.value if base else None


def paper_number(row: Row, metric: Metric, published: Published, table: int, patch_size: int | None = 2) -> Number:
    """The paper's number as printed; with its ratio to SD-VAE-f8 at a patch size where the metric has one."""
    value = paper_value(row, metric, published, table)
    if value is None:
        return NOTHING
    ratio = paper_ratio(value, published, patch_size) if metric.ratio and patch_size else None
    return printed_number(value, ratio)


def printed_number(value: PublishedValue, ratio: float | None = None) -> Number:
    """A number as printed, marked if it is second-hand."""
    return Number(
        value.value, value.decimals, printed=True, ratio=ratio, mark=SECOND_HAND if value.second_hand else "",
        source=value,
    )  # fmt: skip


def number(
    value: Value, metric: Metric, ratio: float | None = None, mark: str = "", source: Source | None = None
) -> Number:
    """A measured value in the unit and with the decimals of its metric."""
    error = None if value.standard_error is None else value.standard_error * metric.scale
    return Number(
        value.value * metric.scale, metric.decimals, standard_error=error, n=value.n, ratio=ratio, mark=mark,
        source=source,
    )  # fmt: skip


def marked_numbers(metric: Metric, random: bool, rows: Sequence[Row], marks: Marks) -> list[Number]:
    """The measured number of each row, from random features or not, with the marks of how it was measured.

    A value of the other kind of features prints "–", one that could not be had "left out", one without a record "not
    run".
    """
    bases = [row for row in rows if (row.cell.spatial_compression, row.cell.patch_size) == (8, 2)]

    def of_row(row: Row) -> Number:
        record = row.records.get(metric.kind)
        if record is None:
            return Number(None, missing="not run")
        value = record.values.get(metric.name)
        if value is None:
            return Number(None, missing="left out") if metric.name in record.excluded else NOTHING
        if value.random_features != random:
            return NOTHING
        ratio = ratio_to_base(row, metric, bases) if metric.ratio else None
        letters = [UNSTEADY * (metric.kind == "efficiency" and value.is_unsteady), marks.of_record(record)]
        return number(value, metric, ratio, ",".join(filter(None, letters)), Source(record, metric.name))

    return [of_row(row) for row in rows]


def measured_numbers(
    table: int,
    metric: Metric,
    random: bool,
    rows: Sequence[Row],
    marks: Marks,
    per_image: PerImageOfCells,
) -> list[Number]:
    """The numbers of ``marked_numbers``, the best ones bold, those marked that a control beats."""
    numbers = _with_bold(table, rows, marked_numbers(metric, random, rows, marks), metric, per_image)
    for index in beaten_by_controls(rows, metric):
        if numbers[index].value is not None:
            mark = ",".join(filter(None, [BEATEN, numbers[index].mark]))
            numbers[index] = replace(numbers[index], bold=False, mark=mark)
    return numbers


# --- bold: the best value among comparable rows, if it stands out ---


def _comparable(table: int, row: Row, kind: str, n: int | None) -> tuple:
    """Rows share this if the best among them may be set in bold: as the paper compares them, and measured alike."""
    record: Record = row.records[kind]
    compared = {1: row.cell.tokens, 2: (row.cell.spatial_compression, row.cell.latent_channels)}
    measured = record.protocol_fingerprint, record.dataset_fingerprint, None if kind == "efficiency" else n
    return row.heading, row.setting, compared.get(table, row.device), measured


def _distinguishable(best: Number, other: Number, paired: Comparison | None) -> bool:
    if paired:
        return paired.verdict == "better"
    if best.standard_error is None or other.standard_error is None:
        return False
    error = math.hypot(best.standard_error, other.standard_error)
    return abs(best.value - other.value) > DISTINGUISHABLE * error


def _paired(best: Row, other: Row, metric: Metric, per_image: PerImageOfCells) -> Comparison | None:
    """The comparison of two reconstructions of the same images; samples of diffusion models are independent."""
    if metric.kind != "reconstruction":
        return None
    results = (Result(row.cell, row.records[metric.kind]) for row in (best, other))
    return compare_results(*results, metric, per_image)


def _is_unsteady(row: Row, metric: Metric) -> bool:
    return metric.kind == "efficiency" and row.value(metric.kind, metric.name).is_unsteady


def _with_bold(
    table: int, rows: Sequence[Row], numbers: list[Number], metric: Metric, per_image: PerImageOfCells
) -> list[Number]:
    groups: dict[tuple, list[int]] = {}
    for index, (row, each) in enumerate(zip(rows, numbers, strict=True)):
        contends = row.heading in (REPRODUCED, RE_EVALUATED, SUPPLIED) and metric.better is not None
        if contends and each.value is not None and math.isfinite(each.value):
            groups.setdefault(_comparable(table, row, metric.kind, each.n), []).append(index)
    result = list(numbers)
    for indices in groups.values():
        ordered = sorted(indices, key=lambda i: numbers[i].value, reverse=metric.better == "higher")
        if len(ordered) < 2:
            continue
        best, next_best = ordered[:2]
        if any(_is_unsteady(rows[i], metric) for i in (best, next_best)):
            continue
        paired = _paired(rows[best], rows[next_best], metric, per_image)
        if _distinguishable(numbers[best], numbers[next_best], paired):
            result[best] = replace(result[best], bold=True)
    return result
