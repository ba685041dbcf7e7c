# SPDX-License-Identifier: Apache-2.0
"""The table of subsets: the same reconstructions on all images, on those with faces, and on those with text."""

from __future__ import annotations

from collections.abc import Iterable

from dcae.benchmark.record import Measured, Record, Value
from evaluation.tables.comparability import HowMeasured, marks_among
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.rows import display_name

METRICS = tuple(metric for metric in RECONSTRUCTION if metric.name != "rfid")


def _by_protocol(record: Record) -> list[Measured]:
    """What each protocol with subsets gave."""
    main = Measured(
        protocol=record.protocol,
        protocol_fingerprint=record.protocol_fingerprint,
        values=record.values,
        excluded=record.excluded,
    )
    return [each for each in (main, *record.further.values()) if each.protocol.get("subsets")]


def build_subsets(records: Iterable[Record], benchmark: str = "") -> Table:
    """A row for each reconstruction cell and protocol with subsets; a column for each metric on each set of images."""
    found = [(record, each) for record in records if record.kind == "reconstruction" for each in _by_protocol(record)]
    subsets = list(dict.fromkeys(name for _, each in found for name in each.protocol["subsets"]))
    shown = [(metric, subset) for metric in METRICS for subset in (None, *subsets)]
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Protocol", "Protocol", label=True)]
    for metric, subset in shown:
        named = f"{metric.title}, {subset or 'all'}"
        random = " [random features]" if any(_is_random(each, metric) for _, each in found) else ""
        columns.append(Column(named + random, f"{metric.title}{metric.arrow} {subset or 'all'}{random}", True))
    columns += [Column(f"N, {subset or 'all'}", f"N {subset or 'all'}", in_csv=False) for subset in (None, *subsets)]
    marks = marks_among(_how_measured(record, each) for record, each in found)
    sections: dict[str, list[list[str | Number]]] = {}
    for record, each in found:
        place = f"{display_name(record.cell, 'dataset')} at {record.cell['resolution']} px"
        mark = marks.of(_how_measured(record, each))
        numbers = [_number(each, metric, subset, mark) for metric, subset in shown]
        counts = [_count(each, subset) for subset in (None, *subsets)]
        row = [display_name(record.cell, "autoencoder"), str(each.protocol.get("name", "")), *numbers, *counts]
        sections.setdefault(place, []).append(row)
    caption = (
        f"Subsets of images{f', benchmark {benchmark}' if benchmark else ''}: means over all images, and over those in "
        "which a detector finds a face, or text, in the original; values ± one standard error. Columns of one metric "
        "are of different images: compare the rows of a column."
    )
    return Table(
        "Subsets",
        caption,
        columns,
        [Section(place, rows) for place, rows in sections.items()],
        [*marks.notes, *_exclusions([each for _, each in found], subsets)],
        forms=("csv", "md", "html"),
    )


def _how_measured(record: Record, each: Measured) -> HowMeasured:
    """Compared are the rows of one protocol."""
    return HowMeasured.of(record, str(each.protocol.get("name", "")), each)


def _value(each: Measured, metric: Metric, subset: str | None) -> Value | None:
    return each.values.get(f"{metric.name}_{subset}" if subset else metric.name)


def _is_random(each: Measured, metric: Metric) -> bool:
    value = _value(each, metric, None)
    return bool(value and value.random_features)


def _number(each: Measured, metric: Metric, subset: str | None, mark: str) -> Number:
    value = _value(each, metric, subset)
    if value is None:
        return Number(None, missing="–")
    return Number(value.value, metric.decimals, standard_error=value.standard_error, n=value.n, mark=mark)


def _count(each: Measured, subset: str | None) -> str:
    value = _value(each, METRICS[0], subset)
    return str(value.n) if value else "–"


def _exclusions(found: list[Measured], subsets: list[str]) -> list[str]:
    """Which subsets could not be measured, in how many cells, and why."""
    counts: dict[tuple[str, str], int] = {}
    for each in found:
        for subset in subsets:
            reason = each.excluded.get(f"{METRICS[0].name}_{subset}")
            if reason:
                counts[subset, reason] = counts.get((subset, reason), 0) + 1
    return [f"Left out in {n} cells: images with {subset}: {reason}." for (subset, reason), n in counts.items()]
