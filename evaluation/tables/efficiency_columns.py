# SPDX-License-Identifier: Apache-2.0
"""Values of a suite's records as columns: with ratios, the paper's numbers, and marks for what to be careful with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dcae.benchmark.record import Record
from evaluation.efficiency.profile import FAILED
from evaluation.efficiency.timing import DISAGREEMENT
from evaluation.published import Published
from evaluation.tables.efficiency_ratios import paper_ratio, paper_value, ratio_to_base
from evaluation.tables.formats import Column, Number
from evaluation.tables.numbers import NOTHING

UNSTEADY, EXTRAPOLATED, REFUSED, BROKEN = "u", "x", "r", "e"
NOTES = {
    UNSTEADY: f"{UNSTEADY}: repeats of this value differ by more than {DISAGREEMENT:.0%}, the device was not quiet.",
    EXTRAPOLATED: f"{EXTRAPOLATED}: extrapolated linearly from smaller batches; the record says from which.",
    REFUSED: f"{REFUSED}: not counted, since the optimised model's outputs are not those of the eager one.",
    BROKEN: f"{BROKEN}: could not be measured; the record says which error.",
}


@dataclass(frozen=True)
class Quantity:
    """A value of the records as a column; ``ratio``: shown beside its ratio to the base; ``paper``: printed there."""

    name: str
    title: str
    decimals: int
    scale: float = 1.0
    ratio: bool = False
    paper: bool = False


def _number(record: Record, quantity: Quantity, ratio: float | None) -> Number:
    value = record.values.get(quantity.name)
    if value is None:
        why = record.excluded.get(quantity.name)
        if why is None:
            return NOTHING
        if why.startswith(FAILED):
            return Number(None, missing=f"failed ({BROKEN})")
        return Number(None, missing=why) if "GiB" in why else Number(None, missing=f"refused ({REFUSED})")
    marks = [UNSTEADY] * (value.spread > DISAGREEMENT) + [EXTRAPOLATED] * value.extrapolated
    error = None if value.standard_error is None else value.standard_error * quantity.scale
    return Number(
        value.value * quantity.scale, quantity.decimals, standard_error=error, n=value.n, ratio=ratio,
        mark=",".join(marks),
    )  # fmt: skip


def quantity_columns(
    records: Sequence[Record], quantities: Iterable[Quantity], published: Published | None
) -> list[tuple[Column, list]]:
    """Columns with an entry for every record: what was measured, and beside it what the paper prints, if given."""
    columns = []
    for quantity in quantities:
        ratio = "ratio to SD-VAE-f8" if quantity.ratio else None
        ratios = [ratio_to_base(each, quantity.name, records) if quantity.ratio else None for each in records]
        numbers = [_number(each, quantity, share) for each, share in zip(records, ratios, strict=True)]
        name = quantity.title.removesuffix(" ↑").removesuffix(" ↓")
        columns.append((Column(name, quantity.title, measured=True, ratio=ratio), numbers))
        if quantity.paper and published:
            papers = []
            for each in records:
                paper = paper_value(each, quantity.name, published)
                share = paper_ratio(each, quantity.name, records, published) if quantity.ratio else None
                number = Number(paper.value, paper.decimals, printed=True, ratio=share) if paper else NOTHING
                papers.append(number)
            columns.append((Column(f"{name}, paper", "paper", ratio=ratio), papers))
    return columns


def label(name: str, of: Callable[[Record], object], records: Sequence[Record], text: bool = False) -> tuple:
    """A column that says which row it is."""
    return Column(name, name, label=text), [str(of(each)) for each in records]


def notes_of(columns: Iterable[tuple[Column, list]]) -> list[str]:
    """What the marks in some columns mean."""
    numbers = [each for _, entries in columns for each in entries if isinstance(each, Number)]
    marks = {mark for each in numbers for mark in each.mark}
    missing = {each.missing[-2] for each in numbers if each.missing.endswith(")")}
    return [note for mark, note in NOTES.items() if mark in marks | missing]
