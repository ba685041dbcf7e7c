# SPDX-License-Identifier: Apache-2.0
"""Another run of a row that has a record: do the two agree?

Repeats within a run agree on a device that is slower from the first to the last of them; a run an hour later shows it.
"""

from __future__ import annotations

from pathlib import Path

from dcae.benchmark.record import Record
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.timing import disagreements


def runs_of(path: Path) -> int:
    """How many runs a row's record holds; 0 where there is none."""
    return Record.read(path).conditions.get("runs", 1) if path.is_file() else 0


def with_another_run(record: Record, profile: Profile) -> Record:
    """The record of a row with the repeats of a further run, and with remarks on all of its repeats.

    Values stay those of the first run.
    """
    values = {
        name: value.model_copy(update={"repeats": [*value.repeats, *profile.values[name].repeats]})
        if name in profile.values
        else value
        for name, value in record.values.items()
    }
    old = set(disagreements(record.values))
    runs = record.conditions.get("runs", 1) + 1
    return record.model_copy(
        update={
            "values": values,
            "conditions": {**record.conditions, "runs": runs},
            "remarks": [*(each for each in record.remarks if each not in old), *disagreements(values)],
        }
    )
