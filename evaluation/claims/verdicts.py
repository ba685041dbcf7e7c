# SPDX-License-Identifier: Apache-2.0
"""Verdicts on the paper's claims: the rows that each claim compares, the effect between them, and what it decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dcae.benchmark.record import Measured, Record, Value
from evaluation.claims.claims_file import Claim, Compared, PublishedRow, Side, Size
from evaluation.metrics.effects import Effect, PerImage, effect
from evaluation.published import Published, PublishedValue
from evaluation.tables.rows import Result, TableCell, cells_over_seeds, device_name
from evaluation.tables.seeds import over_seeds

Verdict = Literal["held", "not held", "undecided", "not tested"]
VERDICTS: tuple[Verdict, ...] = ("held", "not held", "undecided", "not tested")
TOKENS = "tokens"  # of cells, not of records
COUNTS = (TOKENS, "parameters", "gmacs", "encoder_tensors_changed", "full_to_middle")  # exact
MAIN = ""  # the protocol whose values a record has itself


@dataclass(frozen=True)
class Reading:
    """The value of a metric by one protocol, and its record."""

    value: Value
    protocol: str
    fingerprint: str
    record: Record | None


@dataclass(frozen=True)
class Test:
    """One comparison of a claim at one place.

    Attributes:
        compared: the comparison in ``config/claims.yaml``.
        a, b: the cells of its sides.
        metric: that decides; that of the claim which comes first, if none was measured.
        readings: of a and of b.
        effect: ``None`` where nothing was measured, or its error is not known.
        why: reason why it is not tested or undecided.
        published: the paper's numbers for a and b.
    """

    compared: Compared
    a: TableCell
    b: TableCell | None
    metric: str
    size: Size
    verdict: Verdict
    why: str = ""
    readings: tuple[Reading, ...] = ()
    effect: Effect | None = None
    published: tuple[PublishedValue | None, PublishedValue | None] = (None, None)

    @property
    def random_features(self) -> bool:
        """True if a value comes from networks with random weights."""
        return any(each.value.random_features for each in self.readings)


@dataclass(frozen=True)
class TestedClaim:
    """A claim and its tests; without any, the benchmark has no such rows."""

    claim: Claim
    tests: list[Test]

    @property
    def verdict(self) -> Verdict:
        """Not held if one test says so, held if all of those that were made do."""
        made = [test for test in self.tests if test.verdict != "not tested"]
        found = {test.verdict for test in made}
        if not found:
            return "not tested"
        if self.claim.complete and len({id(test.compared) for test in made}) < len(self.claim.comparisons):
            found.add("undecided")
        return next(verdict for verdict in ("not held", "undecided", "held") if verdict in found)


def judge_claims(
    claims: Iterable[Claim],
    results: Iterable[Result],
    published: Published,
    planned: Iterable[TableCell] = (),
    per_image: Mapping[tuple, PerImage] | None = None,
) -> list[TestedClaim]:
    """Test every claim.

    Args:
        claims: of ``read_claims``.
        results: of any kind, seeds apart or as the mean over them.
        published: the paper's numbers.
        planned: cells of the benchmark; those without a record make a test "not tested".
        per_image: values of every image by ``identity`` of their cell.
    """
    pooled, rows = over_seeds(results, per_image or {})
    records = _Records(pooled, cells_over_seeds(planned), rows)
    return [TestedClaim(claim, _tests(claim, records, published)) for claim in claims]


# --- records and cells ---


class _Records:
    """The cells of a benchmark, and the records of each."""

    def __init__(self, results: Sequence[Result], planned: Sequence[TableCell], per_image: Mapping[tuple, PerImage]):
        self.per_image = per_image
        cells = {cell.identity: cell for cell in planned}
        self._records: dict[tuple, list[Record]] = {}
        for result in results:
            cells[result.cell.identity] = result.cell
            self._records.setdefault(result.cell.identity, []).append(result.record)
        self.cells = list(cells.values())
        sides: dict[tuple, set[int]] = {}
        for cell in self.cells:
            for study in {None, cell.study}:
                sides.setdefault((cell.dataset, study), set()).add(cell.resolution)
        self._resolutions = {place: sorted(found) for place, found in sides.items()}

    def is_at(self, cell: TableCell, where: str, study: str | None) -> bool:
        """Return whether a cell has the lowest, or the highest of several resolutions of its dataset in a study."""
        found = self._resolutions.get((cell.dataset, study), [])
        if where == "lowest":
            return found[:1] == [cell.resolution]
        return where != "highest" or (found[-1:] == [cell.resolution] and len(found) > 1)

    def device(self, cell: TableCell) -> str | None:
        """Return the device that the speed of a cell was measured on."""
        speeds = (record for record in self._records.get(cell.identity, []) if record.kind == "efficiency")
        return next(map(device_name, speeds), None)

    def is_reproduced(self, cell: TableCell) -> bool:
        """Return whether a cell's weights are trained here, by its records or else by its entry."""
        classes = {record.number_class for record in self._records.get(cell.identity, [])}
        return classes <= {"reproduced"} if classes else cell.trained

    def readings(self, cell: TableCell, metric: str) -> list[Reading]:
        """Return a metric by every protocol that measured it, the main one first."""
        records = self._records.get(cell.identity, [])
        if metric == TOKENS:
            return [Reading(Value(value=cell.tokens, n=1), MAIN, "", None)] if records and cell.tokens else []
        found = []
        for record in records:
            main = Measured(
                protocol=record.protocol, protocol_fingerprint=record.protocol_fingerprint, values=record.values
            )
            found += [
                Reading(each.values[metric], name, each.protocol_fingerprint, record)
                for name, each in {MAIN: main, **record.further}.items()
                if metric in each.values
            ]
        return found


# --- the rows that a claim compares ---


def _tests(claim: Claim, records: _Records, published: Published) -> list[Test]:
    tests = []
    for compared in claim.comparisons:
        for a, b in _pairs(claim, compared, records):
            test = _test(claim, compared, a, b, records)
            tests.append(replace(test, published=_published(test, published)))
    return tests


def _pairs(claim: Claim, compared: Compared, records: _Records) -> list[tuple[TableCell, TableCell | None]]:
    """The cells of both sides that agree in data, resolution, base, and what the claim names; trained here, if any."""
    bases = _bases(claim, records.cells)

    def members(side: Side) -> dict[tuple, list[TableCell]]:
        found: dict[tuple, list[TableCell]] = {}
        for cell in (cell for cell in records.cells if _kind(cell) == claim.measures):
            where = side.resolution or claim.at
            if side.matches(cell, claim.study, frozenset(bases)) and records.is_at(cell, where, claim.study):
                for base in _bases_of(cell, claim, bases):
                    found.setdefault(_key(cell, claim, side, records, base), []).append(cell)
        return found

    of_a = members(compared.a)
    if compared.b is None:
        return [(cell, None) for cells in of_a.values() for cell in cells]
    of_b = members(compared.b)
    pairs = []
    for key, cells in of_a.items():
        here = [(a, b) for a in cells for b in of_b.get(key, []) if a != b]
        # The paper compares weights of one training set; others of the same data have no published numbers there.
        here = [pair for pair in here if len({cell.published_dataset for cell in pair}) == 1] or here
        pairs += [pair for pair in here if all(map(records.is_reproduced, pair))] or here
    return pairs


def _bases(claim: Claim, cells: Iterable[TableCell]) -> set[str]:
    return {cell.base for cell in cells if claim.study and cell.study == claim.study and cell.base}


def _bases_of(cell: TableCell, claim: Claim, bases: set[str]) -> list[str | None]:
    """The bases of the claim's study that a cell is compared under."""
    if claim.study is None:
        return [None]
    if cell.study == claim.study:
        return [cell.base]
    return [cell.autoencoder] if cell.autoencoder in bases else []


def _kind(cell: TableCell) -> str:
    """The kind of a row, as ``measures`` of a claim names it."""
    return "diffusion" if cell.diffusion else cell.measures or "reconstruction"


def _key(cell: TableCell, claim: Claim, side: Side, records: _Records, base: str | None) -> tuple:
    of_cell = {
        "f": cell.spatial_compression,
        "c": cell.latent_channels,
        "autoencoder": cell.autoencoder,
        "model": cell.diffusion_paper_name or cell.diffusion,
        "patch_size": cell.patch_size,
        "tokens": cell.tokens,
        "device": records.device(cell),
    }
    resolution = None if side.resolution else cell.resolution
    return cell.dataset, resolution, base, *(of_cell[name] for name in claim.same)


# --- what they decide ---


def _test(claim: Claim, compared: Compared, a: TableCell, b: TableCell | None, records: _Records) -> Test:
    metrics = compared.metrics or claim.metrics
    cells = [a] if b is None else [a, b]
    chosen = _choose(metrics, cells, records)
    if chosen is None:
        metric, size = next(iter(metrics.items()))
        return Test(compared, a, b, metric, size, "not tested", "not run")
    metric, readings = chosen
    size = metrics[metric]
    found = _effect(metric, size, cells, readings, records)
    if found is None:
        return Test(compared, a, b, metric, size, "undecided", "the error is not known", readings)
    verdict, why = size.verdict(found.low, found.high), ""
    if min(found.seeds) < claim.seeds:
        verdict, why = "undecided", f"fewer than {claim.seeds} trainings each: the effect may be that of a seed"
    return Test(compared, a, b, metric, size, verdict, why, readings, found)


def _choose(
    metrics: Mapping[str, Size], cells: Sequence[TableCell], records: _Records
) -> tuple[str, tuple[Reading, ...]] | None:
    """The metric that decides, as one protocol measured it on all cells: random features only if there is no other."""
    candidates = []
    for metric in metrics:
        found = [records.readings(cell, metric) for cell in cells]
        for first in found[0]:
            same = [
                next((each for each in others if _measured_alike(first, each, cells)), None) for others in found[1:]
            ]
            if None not in same:
                candidates.append((metric, (first, *same)))
    sound = [each for each in candidates if not any(reading.value.random_features for reading in each[1])]
    return next(iter([*sound, *candidates]), None)


def _measured_alike(a: Reading, b: Reading, cells: Sequence[TableCell]) -> bool:
    """Return whether two values may be compared: one protocol, one number of images, and at one resolution its images.

    Speeds are compared whatever the number of steps that were timed.
    """
    if (a.protocol, a.fingerprint) != (b.protocol, b.fingerprint):
        return False
    if a.record is None or b.record is None or a.record.kind == "efficiency":
        return True
    same_images = a.record.dataset_fingerprint == b.record.dataset_fingerprint
    return a.value.n == b.value.n and (same_images or len({cell.resolution for cell in cells}) > 1)


def _effect(
    metric: str, size: Size, cells: Sequence[TableCell], readings: Sequence[Reading], records: _Records
) -> Effect | None:
    exact = metric in COUNTS
    if size.scale == "value":
        value = readings[0].value
        error = 0.0 if exact else value.standard_error
        if error is None:
            return None
        zero = Value(value=0.0, n=value.n, standard_error=0.0)
        found = effect(value, zero, "difference", exact=exact)
        return found and replace(found, seeds=(found.seeds[0], found.seeds[0]), covers_seeds=found.seeds[0] > 1)
    a, b = (reading.value for reading in readings)
    one_place = len({cell.resolution for cell in cells}) == 1
    reconstructions = all(cell.diffusion is None for cell in cells)
    rows = [records.per_image.get(cell.identity) for cell in cells]
    same_images = one_place and reconstructions
    known = same_images and readings[0].protocol == MAIN and all(each is not None and metric in each for each in rows)
    paired = known and np.array_equal(*(each["image"] for each in rows))
    return effect(a, b, size.scale, tuple(each[metric] for each in rows) if paired else None, same_images, exact)


# --- the paper's numbers ---


def _published(test: Test, published: Published) -> tuple[PublishedValue | None, PublishedValue | None]:
    named = test.compared.published
    if named is None:
        return None, None
    sides = (named.a, test.a, test.compared.a), (named.b, test.b or test.a, test.compared.b or test.compared.a)
    return tuple(row and _published_value(row, cell, side, test.metric, published) for row, cell, side in sides)


def _published_value(
    row: PublishedRow, cell: TableCell, side: Side, metric: str, published: Published
) -> PublishedValue | None:
    """The number of a row: in the metric's column or else that of rFID, for the cell's model and data if it has any.

    A model or compression that is not printed there gets no number, other data the first number that is printed.
    """
    rows = [each for each in published if (each.table, each.autoencoder) == (row.table, row.autoencoder)]
    known = {
        "diffusion": cell.diffusion_paper_name,
        "spatial_compression": cell.spatial_compression,
        "patch_size": side.patch_size,
        "resolution": row.resolution,
    }
    optional = ("patch_size", "resolution")  # anything goes where the claim names none
    for name, value in known.items():
        if name not in optional or value:
            rows = [each for each in rows if getattr(each, name) in (None, value)]
    if row.column == TOKENS:
        return next(iter(rows), None)
    columns = [row.column] if row.column else [metric, "rfid"]
    column = next((name for name in columns if any(each.column == name for each in rows)), None)
    rows = [each for each in rows if each.column == column]
    place = cell.published_dataset, cell.published_resolution
    return next((each for each in rows if (each.dataset, each.resolution) == place), next(iter(rows), None))


def published_ratio(pair: tuple[PublishedValue | None, PublishedValue | None]) -> float | None:
    """Return a / b of the paper's numbers."""
    a, b = pair
    return a.value / b.value if a and b and b.value and math.isfinite(b.value) else None
