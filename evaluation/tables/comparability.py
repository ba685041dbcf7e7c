# SPDX-License-Identifier: Apache-2.0
"""Marks for values that were not measured as the others of their table or figure, so that nobody compares them.

Values are comparable if they share the protocol, by its fingerprint, and at one place (dataset and resolution) the
images, by the dataset's fingerprint and their number: rFID of 2,000 images is not that of 50,000.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dcae.benchmark.record import Measured, Record

Aspect = tuple[Hashable, Hashable]  # the group of values that is compared, and the value of the aspect


@dataclass(frozen=True)
class HowMeasured:
    """The protocol and the images that values were measured with.

    ``group``: values are compared within it, such as the kind of record; ``place``: dataset and resolution.
    """

    group: str
    place: tuple[str | None, int]
    protocol_fingerprint: str
    dataset_fingerprint: str | None
    images: int
    protocol: dict[str, Any] = field(compare=False)

    @classmethod
    def of(cls, record: Record, group: str | None = None, measured: Record | Measured | None = None) -> HowMeasured:
        """Describe a record's own protocol, or another one that ``measured`` in the same pass."""
        measured = measured or record
        # Values on subsets, such as images with faces, have fewer.
        images = max((value.n for value in measured.values.values()), default=0)
        return cls(
            group or record.kind,
            (record.cell.get("dataset"), record.cell["resolution"]),
            measured.protocol_fingerprint,
            record.dataset_fingerprint,
            images if record.kind != "efficiency" else 0,
            measured.protocol,
        )


def _by(how: HowMeasured) -> Aspect:
    return how.group, how.protocol_fingerprint


def _on(how: HowMeasured) -> Aspect:
    return (how.group, how.place), (how.dataset_fingerprint, how.images)


@dataclass(frozen=True)
class Marks:
    """A letter for each protocol and each set of images other than the most frequent one; notes on the differences.

    Empty where everything was measured alike.
    """

    letters: dict[Aspect, str]
    notes: list[str]

    def of(self, how: HowMeasured) -> str:
        """Return the letters for values that were measured like this, separated by commas."""
        return ",".join(self.letters[key] for key in (_by(how), _on(how)) if key in self.letters)

    def of_record(self, record: Record) -> str:
        """Return the letters for the values of a record's own protocol."""
        return self.of(HowMeasured.of(record))


def alike(a: Record, b: Record) -> bool:
    """Return whether the values of two records may be compared."""
    return HowMeasured.of(a) == HowMeasured.of(b)


def marks_among(measured: Iterable[HowMeasured]) -> Marks:
    """Return the marks of a table or figure that shows all of these."""
    measured = list(measured)
    letters: dict[Aspect, str] = {}
    notes = []
    for aspect, told in ((_by, _other_protocol), (_on, _other_images)):
        groups: dict[Hashable, list[HowMeasured]] = {}
        for how in measured:
            groups.setdefault(aspect(how)[0], []).append(how)
        for members in groups.values():
            counts = Counter(map(aspect, members))
            examples = {aspect(how): how for how in reversed(members)}
            usual, *others = sorted(counts, key=lambda key: (-counts[key], str(key)))
            for key in others:
                letters[key] = chr(ord("a") + len(letters))
                notes.append(f"{letters[key]}: {told(examples[key], examples[usual])}.")
    return Marks(letters, notes)


def marks_of_records(records: Iterable[Record]) -> Marks:
    """Return the marks of a table or figure that shows the values of the records' own protocols."""
    return marks_among(map(HowMeasured.of, records))


def flat(protocol: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested protocol to names like ``inception.weights``."""
    flattened: dict[str, Any] = {}
    for key, value in protocol.items():
        flattened |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flattened


def _other_protocol(other: HowMeasured, usual: HowMeasured) -> str:
    ours, theirs = flat(other.protocol), flat(usual.protocol)
    differing = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    listed = [f"{key} {ours.get(key, 'absent')} instead of {theirs.get(key, 'absent')}" for key in differing]
    what = "; ".join(listed) or f"fingerprint {other.protocol_fingerprint} instead of {usual.protocol_fingerprint}"
    return f"another {other.group} protocol than the unmarked values, not comparable: {what}"


def _other_images(other: HowMeasured, usual: HowMeasured) -> str:
    dataset, resolution = other.place
    if other.images != usual.images:
        what = f"of {other.images:,} images instead of {usual.images:,}"
    else:
        what = f"the dataset's fingerprint is {other.dataset_fingerprint} instead of {usual.dataset_fingerprint}"
    return f"other images of {dataset} at {resolution} px than the unmarked values, not comparable: {what}"
