# SPDX-License-Identifier: Apache-2.0
"""What was measured and is kept in the repository can be read, and its tables are of all of it."""

from pathlib import Path

import pytest

from dcae.benchmark import Record

MEASURED = Path(__file__).parents[3] / "results" / "measured"


@pytest.mark.parametrize(
    "folder", sorted(path for path in MEASURED.glob("*") if path.is_dir()), ids=lambda path: path.name
)
def test_records_of_one_device_stand_in_tables(folder):
    records = [Record.read(path) for path in sorted((folder / "records").rglob("*.json"))]
    assert len({record.device["name"] for record in records}) == 1
    text = "".join(path.read_text() for path in (folder / "tables").glob("*.md"))
    assert all(f"{record.cell['autoencoder']} " in text for record in records)
