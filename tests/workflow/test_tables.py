# SPDX-License-Identifier: Apache-2.0
"""``dcae tables`` on damaged, doubled and impossible records: each is named, the others are printed."""

from __future__ import annotations

import json

import pytest

from dcae.benchmark import Benchmark
from tests.evaluation import synthetic
from tests.workflow.test_commands import dcae
from workflow import layout

PATTERNS = {
    "reconstruction": layout.RECONSTRUCTION_RECORD,
    "generation": layout.GENERATION_RECORD,
    "efficiency": layout.EFFICIENCY_RECORD,
}


def written(results) -> list:
    """The demo benchmark's records in their places."""
    paths = []
    for each in synthetic.demo_records():
        paths.append(layout.file("demo", PATTERNS[each.kind], results, **each.record.cell))
        each.record.write(paths[-1])
    return [path for path in paths if path.stem == "blur"]


def changed(path, **value) -> str:
    """A record's text with a changed PSNR."""
    content = json.loads(path.read_text())
    content["values"]["psnr"] |= value
    return json.dumps(content)


DAMAGE = {
    "cut": lambda path: path.read_text()[:300],
    "empty": lambda path: "",
    "zeros": lambda path: "\0" * 500,
    "newer": lambda path: path.read_text().replace('"schema_version": 1', '"schema_version": 2'),
    "no number": lambda path: changed(path, value=float("nan")),
    "no error": lambda path: changed(path, standard_error=-1.0),
    "no images": lambda path: changed(path, n=-3),
    "negative": lambda path: changed(path, value=-7.0),
    "doubled": lambda path: path.read_text().replace('"autoencoder": "blur"', '"autoencoder": "identity"'),
    "key twice": lambda path: path.read_text().replace('"remarks": ', '"remarks": ["a"], "remarks": '),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_record_of_its_cell_is_named_and_left_out(damage, tmp_path, monkeypatch, capsys):
    bad, *_ = written(tmp_path)
    bad.write_text(DAMAGE[damage](bad))
    assert dcae(monkeypatch, "tables", "config/demo.yaml", "--results", str(tmp_path)) == 1
    told = capsys.readouterr()
    assert f"LEFT OUT: {bad}" in told.err and "remove it and run again" in told.err and "Traceback" not in told.err
    table = (tmp_path / "demo" / "tables" / "table2.csv").read_text()
    assert "identity" in table or "dc-ae" in table


def test_before_any_run_it_says_that_there_is_nothing(tmp_path, monkeypatch, capsys):
    assert dcae(monkeypatch, "tables", "config/demo.yaml", "--results", str(tmp_path)) == 0
    assert f"nothing has run: no records of these cells in {tmp_path / 'demo' / 'records'}" in capsys.readouterr().err


def test_stale_and_missing_records_are_told_with_the_reason(tmp_path, monkeypatch, capsys):
    benchmark = Benchmark.load("config/demo.yaml")
    cell = next(each for each in benchmark.cells.reconstruction if each.autoencoder == "blur")
    synthetic_record = next(each.record for each in synthetic.demo_records() if each.kind == "reconstruction")
    record = synthetic_record.model_copy(update={"cell": vars(cell)})
    record.write(layout.file("demo", layout.RECONSTRUCTION_RECORD, tmp_path, **vars(cell)))
    dcae(monkeypatch, "tables", "config/demo.yaml", "--results", str(tmp_path))
    told = capsys.readouterr().err
    assert f"stale: reconstruction of {cell.dataset} {cell.resolution} blur: " in told
    assert "an entry, or a file that one names, has changed since" in told
    assert "have no record:" in told and "not started" in told
