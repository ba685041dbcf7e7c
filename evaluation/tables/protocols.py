# SPDX-License-Identifier: Apache-2.0
"""Tables of every protocol of a pass: the same reconstructions or samples by each of them, and by subsets of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from dcae.benchmark.record import Measured, Record, Value
from evaluation.metrics.registry import IMAGE_METRICS
from evaluation.tables.comparability import HowMeasured, marks_among
from evaluation.tables.formats import Column, Number, Section, Source, Table
from evaluation.tables.metrics import OF_KIND, Metric, reconstruction_column
from evaluation.tables.numbers import NOTHING, number
from evaluation.tables.rows import Result, TableCell, display_name

OF_SUBSETS = tuple(map(reconstruction_column, IMAGE_METRICS))
IMAGES = {"reconstruction": "reconstructions", "generation": "samples"}


def _by_protocol(record: Record) -> dict[str, Measured]:
    """The results of each protocol by its name, the main one first."""
    main = Measured(
        protocol=record.protocol,
        protocol_fingerprint=record.protocol_fingerprint,
        values=record.values,
        excluded=record.excluded,
    )
    return {record.protocol.get("name", "main"): main, **record.further}


def _number(record: Record, protocol: str, measured: Measured, name: str, metric: Metric, mark: str) -> Number:
    value = measured.values.get(name)
    source = Source(record, name, protocol if protocol in record.further else "")
    return number(value, metric, mark=mark, source=source) if value else NOTHING


def _random(values: Iterable[Value | None]) -> str:
    return " [random features]" if any(value and value.random_features for value in values) else ""


# --- the table of protocols ---


def build_protocols(
    results: Iterable[Result], benchmark: str = "", kind: Literal["reconstruction", "generation"] = "reconstruction"
) -> Table:
    """Build a row for each cell of a kind, and a column for each metric under each protocol that has it."""
    rows = [(each.cell, each.record, _by_protocol(each.record)) for each in results if each.kind == kind]
    found = [by_protocol for *_, by_protocol in rows]
    protocols = list(dict.fromkeys(name for each in found for name in each))
    pairs = [
        (metric, protocol)
        for metric in OF_KIND[kind]
        for protocol in protocols
        if any(metric.name in each[protocol].values for each in found if protocol in each)
    ]
    labels = ["Autoencoder", *(["Diffusion model"] if kind == "generation" else [])]
    columns = [Column(label, label, label=True) for label in labels]
    for metric, protocol in pairs:
        random = _random(each[protocol].values.get(metric.name) for each in found if protocol in each)
        columns.append(
            Column(f"{metric.title}, {protocol}{random}", f"{metric.title}{metric.arrow} {protocol}{random}", True)
        )
    how = [{name: HowMeasured.of(record, name, each) for name, each in of.items()} for _, record, of in rows]
    marks = marks_among(each for by_name in how for each in by_name.values())
    sections: dict[str, list[list[str | Number]]] = {}
    for (cell, record, by_protocol), by_name in zip(rows, how, strict=True):
        numbers = [
            _number(record, protocol, by_protocol[protocol], metric.name, metric, marks.of(by_name[protocol]))
            if protocol in by_protocol
            else NOTHING
            for metric, protocol in pairs
        ]
        sections.setdefault(cell.place, []).append([*_labels(cell), *numbers])
    above = (
        f"{f'Benchmark {benchmark}: t' if benchmark else 'T'}he same {IMAGES[kind]}, measured in one pass under "
        "every protocol; values ± one standard error. Numbers of different protocols are not comparable with each "
        "other."
    )
    return Table(
        "Protocols" if kind == "reconstruction" else "Protocols of generation",
        above,
        columns,
        [Section(place, entries) for place, entries in sections.items()],
        [
            *marks.notes,
            *_fingerprints(found),
            *(_estimators(found) if kind == "reconstruction" else []),
            *_left_out(found),
        ],
    )


def _labels(cell: TableCell) -> list[str]:
    diffusion = [f"{display_name(cell, 'diffusion')} p{cell.patch_size}"] if cell.diffusion else []
    return [display_name(cell, "autoencoder"), *diffusion]


def _fingerprints(found: list[dict[str, Measured]]) -> list[str]:
    """One note for each protocol; a second fingerprint under one name is told loudly."""
    fingerprints: dict[str, dict[str, None]] = {}
    for each in found:
        for name, measured in each.items():
            fingerprints.setdefault(name, {})[measured.protocol_fingerprint] = None
    return [
        f"{name}: fingerprint {', '.join(prints)}."
        + (" THE CELLS WERE MEASURED BY DIFFERENT PROTOCOLS OF THIS NAME: measure them again." * (len(prints) > 1))
        for name, prints in fingerprints.items()
    ]


def _estimators(found: list[dict[str, Measured]]) -> list[str]:
    """One note on the estimator of each protocol's KID of reconstructions, which moves the number."""
    estimators = {
        name: measured.protocol.get("kid_estimator", "paired")
        for each in found
        for name, measured in each.items()
        if "kid" in measured.values
    }
    told = {
        "paired": "paired estimator, which leaves out the pairs of an image and its own reconstruction",
        "unpaired": "unpaired estimator, that of libraries",
    }
    return [f"KID, {name}: {told[estimator]}." for name, estimator in estimators.items()]


def _left_out(found: list[dict[str, Measured]]) -> list[str]:
    """Values that could not be had, with the reason and the number of cells."""
    counts = Counter(
        (protocol, name, reason)
        for each in found
        for protocol, measured in each.items()
        for name, reason in measured.excluded.items()
    )
    return [f"Left out in {n} cells: {name} of {protocol}: {reason}." for (protocol, name, reason), n in counts.items()]


# --- the table of subsets ---


def _of_subset(metric: Metric, subset: str | None) -> str:
    return f"{metric.name}_{subset}" if subset else metric.name


def build_subsets(results: Iterable[Result], benchmark: str = "") -> Table:
    """Build a row for each reconstruction and protocol with subsets, and a column for each metric on each subset."""
    rows = [
        (each, name, measured, HowMeasured.of(each.record, name, measured))
        for each in results
        if each.kind == "reconstruction"
        for name, measured in _by_protocol(each.record).items()
        if measured.protocol.get("subsets")
    ]
    found = [measured for _, _, measured, _ in rows]
    subsets = [None, *dict.fromkeys(name for each in found for name in each.protocol["subsets"])]
    shown = [(metric, subset) for metric in OF_SUBSETS for subset in subsets]
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Protocol", "Protocol", label=True)]
    for metric, subset in shown:
        random, of = _random(each.values.get(metric.name) for each in found), subset or "all"
        columns.append(Column(f"{metric.title}, {of}{random}", f"{metric.title}{metric.arrow} {of}{random}", True))
    columns += [Column(f"N, {subset or 'all'}", f"N {subset or 'all'}", in_csv=False) for subset in subsets]
    marks = marks_among(how for *_, how in rows)
    sections: dict[str, list[list[str | Number]]] = {}
    for result, name, measured, how in rows:
        cell, mark = result.cell, marks.of(how)
        numbers = [_number(result.record, name, measured, _of_subset(metric, of), metric, mark) for metric, of in shown]
        values = (measured.values.get(_of_subset(OF_SUBSETS[0], subset)) for subset in subsets)
        counts = [str(value.n) if value else "–" for value in values]
        sections.setdefault(cell.place, []).append([display_name(cell, "autoencoder"), name, *numbers, *counts])
    caption = (
        f"Subsets of images{f', benchmark {benchmark}' if benchmark else ''}: means over all images, and over those in "
        "which a detector finds a face, or text, in the original; values ± one standard error. Columns of one metric "
        "are of different images: compare the rows of a column."
    )
    reasons = (
        (subset, each.excluded.get(_of_subset(OF_SUBSETS[0], subset))) for each in found for subset in subsets if subset
    )
    left_out = Counter((subset, reason) for subset, reason in reasons if reason)
    return Table(
        "Subsets",
        caption,
        columns,
        [Section(place, entries) for place, entries in sections.items()],
        [
            *marks.notes,
            *(f"Left out in {n} cells: images with {subset}: {reason}." for (subset, reason), n in left_out.items()),
        ],
    )
