# SPDX-License-Identifier: Apache-2.0
"""The records and published numbers behind the numbers of a page, each with an anchor."""

from __future__ import annotations

from collections.abc import Iterable

from dcae.benchmark.record import Measured, Record
from evaluation.published import PublishedValue
from evaluation.tables.formats import Number, Source
from evaluation.tables.rows import device_name

MAIN = ""  # the protocol whose values a record has itself


def title_of(record: Record) -> str:
    """Return the kind of a record and its cell, for readers."""
    cell = record.cell
    model = f"{cell['diffusion']} p{cell['patch_size']} on " if "diffusion" in cell else ""
    place = f"{cell['dataset']} at " if "dataset" in cell else ""
    return f"{record.kind}: {model}{cell['autoencoder']}, {place}{cell['resolution']} px"


def by_protocol(record: Record) -> dict[str, Record | Measured]:
    """Return what each protocol measured, the main one first."""
    return {MAIN: record, **record.further}


class Sources:
    """Records and published numbers in the order in which the page has them.

    Args:
        records: shown whether or not a number opens them.
    """

    def __init__(self, records: Iterable[Record] = ()):
        self.records: dict[str, Record] = {}
        self.published: dict[str, PublishedValue] = {}
        self._anchors: dict[tuple, str] = {}
        for record in records:
            self.of_record(record)

    def of_record(self, record: Record) -> str:
        """Return the anchor of a record, which is added if it is new."""
        key = record.kind, *sorted(record.cell.items()), device_name(record)
        anchor = self._anchors.setdefault(key, f"r{len(self.records) + 1}")
        self.records.setdefault(anchor, record)
        return anchor

    def of_value(self, record: Record, value: str, protocol: str = MAIN) -> str:
        """Return the anchor of one value of a record."""
        return "-".join(filter(None, [self.of_record(record), protocol, value]))

    def of_number(self, number: Number) -> str | None:
        """Return the anchor of a number in a table; ``None`` if it has no source."""
        source = number.source
        if isinstance(source, Source):
            return self.of_value(source.record, source.value, source.protocol)
        return self.of_published(source) if source else None

    def of_published(self, source: PublishedValue) -> str:
        """Return the anchor of a published number, which is added if it is new."""
        anchor = self._anchors.setdefault(source.key, f"p{len(self.published) + 1}")
        self.published.setdefault(anchor, source)
        return anchor
