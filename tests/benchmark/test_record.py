# SPDX-License-Identifier: Apache-2.0
"""Records are written whole, read back equal, and refused if they are not records."""

import json
import math
from pathlib import Path

import pytest

from dcae.benchmark import Provenance, Record, Value, write_atomically
from dcae.benchmark.record import RecordError, schema

ROOT = Path(__file__).parents[2]


def record(**values) -> Record:
    return Record(
        kind="reconstruction",
        number_class="control",
        cell={"dataset": "scenes", "resolution": 64, "autoencoder": "identity"},
        values=values or {"psnr": Value(value=math.inf, n=4, standard_error=0.0, unit="dB")},
        protocol={"name": "random-features"},
        protocol_fingerprint="0123",
        device={"type": "cpu"},
        provenance=Provenance(
            created="2026-01-01T00:00:00+00:00", version="0", git_commit=None, git_dirty=None, command="dcae evaluate",
            config_digest="a", code_digest="b", inputs={}, packages={}, python="3.11", platform="Linux", seed=0,
            wall_seconds=1.0,
        ),
    )  # fmt: skip


def test_round_trip_keeps_infinity(tmp_path):
    record().write(tmp_path / "a" / "record.json")
    assert Record.read(tmp_path / "a" / "record.json") == record()
    json.loads((tmp_path / "a" / "record.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_what_is_no_record_is_refused_by_name(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"schema_version": 1}')
    with pytest.raises(RecordError, match=r"other\.json is not a record of schema version 1: .*remove it"):
        Record.read(path)
    with pytest.raises(RecordError, match=r"missing\.json is not a record"):
        Record.read(tmp_path / "missing.json")


def test_equal_text_leaves_the_file_alone(tmp_path):
    path = tmp_path / "text"
    write_atomically(path, "same")
    before = path.stat().st_mtime_ns
    write_atomically(path, "same")
    assert path.stat().st_mtime_ns == before
    write_atomically(path, "other")
    assert path.read_text() == "other"
    assert list(tmp_path.iterdir()) == [path]


def test_published_schema_is_current():
    assert (ROOT / "docs" / "record.schema.json").read_text() == schema()
