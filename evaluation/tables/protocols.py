# SPDX-License-Identifier: Apache-2.0
"""The tables of protocols: the same reconstructions, or samples, under every protocol of a pass, a column for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from dcae.benchmark.record import Record, Value
from evaluation.tables.comparability import HowMeasured, marks_among
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import OF_KIND, Metric
from evaluation.tables.rows import display_name

MEASURED = {"reconstruction": "reconstructions", "generation": "samples"}


def _by_protocol(record: Record) -> dict[str, tuple[dict[str, Value], dict[str, str], str]]:
    """Return values, exclusions and fingerprint by the name of the protocol."""
    main = record.protocol.get("name", "main")
    found = {main: (record.values, record.excluded, record.protocol_fingerprint)}
    return found | {
        name: (each.values, each.excluded, each.protocol_fingerprint) for name, each in record.further.items()
    }


def _how_measured(record: Record) -> dict[str, HowMeasured]:
    """Return how values were measured by the name of the protocol, within which they are compared."""
    main = record.protocol.get("name", "main")
    found = {main: HowMeasured.of(record, main)}
    return found | {name: HowMeasured.of(record, name, each) for name, each in record.further.items()}


def build_protocols(
    records: Iterable[Record], benchmark: str = "", kind: Literal["reconstruction", "generation"] = "reconstruction"
) -> Table:
    """Return a row for each cell of a kind, and a column for each metric by each protocol that has it."""
    records = [record for record in records if record.kind == kind]
    found = [_by_protocol(record) for record in records]
    protocols = list(dict.fromkeys(name for each in found for name in each))
    pairs = [
        (metric, protocol)
        for metric in OF_KIND[kind]
        for protocol in protocols
        if any(metric.name in each[protocol][0] for each in found if protocol in each)
    ]
    labels = ["Autoencoder", *(["Diffusion model"] if kind == "generation" else [])]
    columns = [Column(label, label, label=True) for label in labels]
    for metric, protocol in pairs:
        values = [each[protocol][0].get(metric.name) for each in found if protocol in each]
        random = " [random features]" if any(value and value.random_features for value in values) else ""
        columns.append(
            Column(f"{metric.title}, {protocol}{random}", f"{metric.title}{metric.arrow} {protocol}{random}", True)
        )
    marks = marks_among(how for record in records for how in _how_measured(record).values())
    sections: dict[str, list[list[str | Number]]] = {}
    for record, each in zip(records, found, strict=True):
        place = f"{display_name(record.cell, 'dataset')} at {record.cell['resolution']} px"
        letters = {name: marks.of(how) for name, how in _how_measured(record).items()}
        entries = [
            _number(each.get(protocol, ({},))[0].get(metric.name), metric, letters.get(protocol, ""))
            for metric, protocol in pairs
        ]
        sections.setdefault(place, []).append([*_labels(record), *entries])
    above = (
        f"{f'Benchmark {benchmark}: t' if benchmark else 'T'}he same {MEASURED[kind]}, measured in one pass under "
        "every protocol; values ± one standard error. Numbers of different protocols are not comparable with each "
        "other."
    )
    return Table(
        "Protocols" if kind == "reconstruction" else "Protocols of generation",
        above,
        columns,
        [Section(place, rows) for place, rows in sections.items()],
        [*marks.notes, *_fingerprints(found), *_exclusions(found)],
        forms=("csv", "md", "html"),
    )


def _labels(record: Record) -> list[str]:
    autoencoder = display_name(record.cell, "autoencoder")
    if record.kind == "reconstruction":
        return [autoencoder]
    return [autoencoder, f"{display_name(record.cell, 'diffusion')} p{record.cell['patch_size']}"]


def _number(value: Value | None, metric: Metric, mark: str) -> Number:
    if value is None:
        return Number(None, missing="–")
    return Number(value.value, metric.decimals, standard_error=value.standard_error, n=value.n, mark=mark)


def _fingerprints(found: list[dict]) -> list[str]:
    """Return a note per protocol, in capitals if one name has several fingerprints."""
    fingerprints: dict[str, dict[str, None]] = {}
    for each in found:
        for name, (_, _, fingerprint) in each.items():
            fingerprints.setdefault(name, {})[fingerprint] = None
    return [
        f"{name}: fingerprint {', '.join(prints)}."
        + (" THE CELLS WERE MEASURED BY DIFFERENT PROTOCOLS OF THIS NAME: measure them again." * (len(prints) > 1))
        for name, prints in fingerprints.items()
    ]


def _exclusions(found: list[dict]) -> list[str]:
    """Return a note per value that was left out, with the number of cells."""
    counts: dict[tuple[str, str, str], int] = {}
    for each in found:
        for protocol, (_, excluded, _) in each.items():
            for name, reason in excluded.items():
                counts[protocol, name, reason] = counts.get((protocol, name, reason), 0) + 1
    return [f"Left out in {n} cells: {name} of {protocol}: {reason}." for (protocol, name, reason), n in counts.items()]
