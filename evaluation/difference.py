# SPDX-License-Identifier: Apache-2.0
"""Two runs, cell by cell: settings, code, data and values that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcae.benchmark import Provenance, Record, Value
from evaluation.metrics.paired import Comparison, PairingError, compare, read_rows
from evaluation.metrics.registry import CLIP_SCORE, METRICS, metrics_of_reconstructions

Topic = Literal["settings", "code", "data", "device"]

RECORDS = "records"
PER_IMAGE = "per_image"
BETTER = {metric.name: metric.better for metric in (*METRICS, *metrics_of_reconstructions(), CLIP_SCORE)}
CellName = tuple[str, str]  # the kind of a record, and its path below that


class RunError(ValueError):
    """A folder is not that of a run."""


@dataclass(frozen=True)
class Change:
    """One setting that differs: its topic, its name, and what each run has."""

    topic: Topic
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class ValueChange:
    """One value that differs. ``comparison``: B minus A over the same images, where both runs kept them."""

    name: str
    a: Value | None
    b: Value | None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class CellDifference:
    """A cell of both runs, or of one: ``only_in``."""

    kind: str
    cell: str
    only_in: Literal["A", "B", ""] = ""
    changes: tuple[Change, ...] = ()
    values: tuple[ValueChange, ...] = ()

    @property
    def equal(self) -> bool:
        return not (self.only_in or self.changes or self.values)


def read_run(folder: Path) -> dict[CellName, Record]:
    """Return the records of a run by cell.

    Raises:
        RunError: the folder has no records.
        ValueError: a file is not a record.
    """
    paths = sorted((folder / RECORDS).rglob("*.json"))
    if not paths:
        raise RunError(f"{folder}: no records below {folder / RECORDS}; expected results/BENCHMARK of a run")
    return {_cell_name(path.relative_to(folder / RECORDS)): Record.read(path) for path in paths}


def _cell_name(path: Path) -> CellName:
    kind, *below = path.with_suffix("").parts
    return kind, "/".join(below)


def differences(a: Path, b: Path) -> Iterator[CellDifference]:
    """Compare two runs, cell by cell, in the order of their names."""
    runs = read_run(a), read_run(b)
    for name in sorted({*runs[0], *runs[1]}):
        one, other = (run.get(name) for run in runs)
        if one is None or other is None:
            yield CellDifference(*name, only_in="A" if other is None else "B")
            continue
        rows = [_rows(folder, name) for folder in (a, b)]
        yield CellDifference(*name, changes=tuple(changes(one, other)), values=tuple(value_changes(one, other, *rows)))


def _rows(folder: Path, name: CellName) -> Any:
    path = folder / PER_IMAGE / f"{name[1]}.parquet"
    return read_rows(path) if name[0] == "reconstruction" and path.is_file() else None


def changes(a: Record, b: Record) -> Iterator[Change]:
    """Yield what differs between two records of a cell besides values; times and commands are no difference."""
    yield from _fields("settings", _settings(a), _settings(b))
    yield from _fields("code", _code(a.provenance), _code(b.provenance))
    data = [{"images": each.dataset_fingerprint, **each.provenance.inputs} for each in (a, b)]
    yield from _fields("data", *data)
    yield from _fields("device", a.device | a.conditions, b.device | b.conditions)


def _settings(record: Record) -> dict[str, Any]:
    further = {
        f"{name}.{field}": value for name, each in record.further.items() for field, value in each.protocol.items()
    }
    entries = {"configuration digest": record.provenance.config_digest, "seed": record.provenance.seed}
    return {"number class": record.number_class, **entries, **record.protocol, **further}


def _code(provenance: Provenance) -> dict[str, Any]:
    ours = {"results version": provenance.results_version, "sources digest": provenance.code_digest}
    commit = {"git commit": provenance.git_commit, "uncommitted changes": provenance.git_dirty}
    return ours | commit | provenance.packages | {"python": provenance.python}


def _fields(topic: Topic, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            yield Change(topic, name, a.get(name), b.get(name))


def value_changes(a: Record, b: Record, rows_a: Any = None, rows_b: Any = None) -> Iterator[ValueChange]:
    """Yield the values that differ, with those of additional protocols, as ``PROTOCOL.NAME``."""
    for prefix, ours, theirs in _value_sets(a, b):
        for name in {**ours, **theirs}:
            one, other = ours.get(name), theirs.get(name)
            if one is None or other is None:
                yield ValueChange(prefix + name, one, other)
            elif one.value != other.value:
                yield ValueChange(prefix + name, one, other, _paired(name, other, one, rows_b, rows_a))


def _value_sets(a: Record, b: Record) -> Iterator[tuple[str, dict[str, Value], dict[str, Value]]]:
    yield "", a.values, b.values
    for name in {**a.further, **b.further}:
        ours, theirs = (each.further[name].values if name in each.further else {} for each in (a, b))
        yield f"{name}.", ours, theirs


def _paired(name: str, a: Value, b: Value, rows_a: Any, rows_b: Any) -> Comparison | None:
    if name not in BETTER or a.n != b.n:
        return None
    try:
        return compare(name, a, b, rows_a, rows_b, BETTER[name])
    except PairingError:
        return None
