# SPDX-License-Identifier: Apache-2.0
"""One result of all seeds of an entry: ``<entry>`` and ``<entry>@seed<N>`` are trainings of one autoencoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dcae.benchmark.record import Measured, Value
from evaluation.metrics.effects import PerImage, mean_over_seeds
from evaluation.tables.rows import Result, of_entry

IMAGES_ALONE = "one training each: intervals cover images alone, not seeds"


def mean_rows(rows: Sequence[PerImage]) -> PerImage | None:
    """Return the mean over seeds of each image's values; ``None`` if a seed's rows are missing, or of other images."""
    if not rows or any(each is None or not np.array_equal(each["image"], rows[0]["image"]) for each in rows):
        return None
    shared = set(rows[0]).intersection(*rows)
    return {name: np.mean([each[name] for each in rows], axis=0) for name in rows[0] if name in shared}


def over_seeds(
    results: Iterable[Result], per_image: Mapping[tuple, PerImage]
) -> tuple[list[Result], dict[tuple, PerImage]]:
    """Return one result for each entry and cell, the mean over its seeds, and the mean of each image's values.

    Entries with one training are returned as they are. Values that a seed lacks are left out.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        cell = of_entry(result.cell)
        device = result.record.device.get("name") if result.kind == "efficiency" else None
        groups.setdefault((result.kind, cell.identity, device), []).append(result)
    pooled, rows = [], {}
    for (kind, identity, _), members in groups.items():
        if len(members) == 1 or len({each.cell.autoencoder for each in members}) < len(members):
            pooled += [replace(each, cell=of_entry(each.cell)) for each in members]
            found = [per_image.get(each.cell.identity) for each in members[:1]]
        else:
            found = [per_image.get(each.cell.identity) for each in members] if kind == "reconstruction" else []
            pooled.append(_mean(members, mean_rows(found)))
        if kind == "reconstruction" and (mean := mean_rows(found)) is not None:
            rows[identity] = mean
    return pooled, rows


def _mean(members: Sequence[Result], rows: PerImage | None) -> Result:
    records = [each.record for each in members]
    first = records[0]
    alike = [each for each in records if each.protocol_fingerprint == first.protocol_fingerprint]
    record = first.model_copy(
        update={
            "values": _mean_values([each.values for each in alike], rows),
            "excluded": {name: why for each in records for name, why in each.excluded.items()},
            "further": {name: _mean_measured([each.further[name] for each in records if name in each.further])
                        for name in first.further},
            "remarks": list(dict.fromkeys(remark for each in records for remark in each.remarks)),
        }
    )  # fmt: skip
    return Result(replace(of_entry(members[0].cell), seeds=len(alike)), record)


def _mean_measured(measured: Sequence[Measured]) -> Measured:
    return measured[0].model_copy(update={"values": _mean_values([each.values for each in measured], None)})


def _mean_values(values: Sequence[Mapping[str, Value]], rows: PerImage | None) -> dict[str, Value]:
    shared = [name for name in values[0] if all(name in each for each in values)]
    return {name: mean_over_seeds([each[name] for each in values], rows.get(name) if rows else None) for name in shared}
