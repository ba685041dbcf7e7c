# SPDX-License-Identifier: Apache-2.0
"""Two runs, cell by cell."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from dcae.benchmark import Record, Value
from evaluation.difference import RunError, differences
from tests.evaluation.synthetic import PROVENANCE
from workflow.cli import app

CELL = "reconstruction/scenes-64/dc-ae"


def record(psnr: float, seed: int = 0, **changes) -> Record:
    content = {
        "kind": "reconstruction", "number_class": "reproduced", "cell": {"autoencoder": "dc-ae"},
        "values": {"psnr": Value(value=psnr, n=3, unit="dB")}, "protocol": {"name": "dc-ae", "crop": "adm"},
        "protocol_fingerprint": "p", "dataset_fingerprint": "d", "device": {"name": "a CPU"},
        "provenance": PROVENANCE.model_copy(update={"seed": seed}),
    }  # fmt: skip
    return Record(**(content | changes))


def write(folder, found: Record, psnr: list[float] | None = None, cell: str = CELL) -> None:
    found.write(folder / "records" / f"{cell}.json")
    if psnr:
        path = folder / "per_image" / "scenes-64" / "dc-ae.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"image": np.arange(len(psnr)), "psnr": psnr}), path)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "a", tmp_path / "b"


def test_equal_runs_do_not_differ_whenever_they_were_made(runs):
    write(runs[0], record(20.0))
    later = PROVENANCE.model_copy(update={"created": "2026-01-01T00:00:00+00:00", "wall_seconds": 9.0})
    write(runs[1], record(20.0, provenance=later))
    assert [each.equal for each in differences(*runs)] == [True]
    assert CliRunner().invoke(app, ["diff", *map(str, runs)]).exit_code == 0


def test_a_value_of_the_same_images_is_compared_in_pairs(runs):
    write(runs[0], record(21.0), [20.0, 21.0, 22.0])
    write(runs[1], record(22.0, seed=1, dataset_fingerprint="e"), [21.1, 22.0, 22.9])
    (found,) = differences(*runs)
    assert [(each.topic, each.name) for each in found.changes] == [("settings", "seed"), ("data", "images")]
    (value,) = found.values
    assert value.comparison.difference == pytest.approx(1.0)
    assert value.comparison.standard_error == pytest.approx(0.1 / 3**0.5), "of 1.1, 1.0 and 0.9"
    assert value.comparison.verdict == "better"


def test_settings_code_and_device_are_told_apart(runs):
    write(runs[0], record(20.0))
    other = PROVENANCE.model_copy(update={"results_version": 2, "packages": {"torch": "2.13.0"}})
    write(runs[1], record(20.0, protocol={"name": "dc-ae", "crop": "none"}, device={"name": "H100"}, provenance=other))
    (found,) = differences(*runs)
    assert [(each.topic, each.name, each.a, each.b) for each in found.changes] == [
        ("settings", "crop", "adm", "none"),
        ("code", "results version", 1, 2),
        ("code", "torch", None, "2.13.0"),
        ("device", "name", "a CPU", "H100"),
    ]
    done = CliRunner().invoke(app, ["diff", *map(str, runs)])
    assert done.exit_code == 1 and "settings: crop: adm → none" in done.output


def test_cells_of_one_run_alone_are_named(runs):
    write(runs[0], record(20.0))
    write(runs[1], record(20.0), cell="reconstruction/scenes-64/other")
    assert [(each.cell, each.only_in) for each in differences(*runs)] == [
        ("scenes-64/dc-ae", "A"), ("scenes-64/other", "B"),
    ]  # fmt: skip


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(RunError, match="no records below"):
        list(differences(tmp_path, tmp_path))
