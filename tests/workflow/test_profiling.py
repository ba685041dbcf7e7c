# SPDX-License-Identifier: Apache-2.0
"""``dcae profile --suite``: one record for each row, measured once, with tables and a figure of what is there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcae.benchmark import Config, Record
from dcae.benchmark.config import ConfigError
from evaluation.efficiency import denoiser
from workflow.cli import app
from workflow.commands import profiling

TINY = Path(__file__).parent / "config"


@pytest.fixture(autouse=True)
def _tiny_config(monkeypatch):
    monkeypatch.setattr(profiling, "Config", lambda: Config(TINY))


def profile_suite(output: Path, rows: str = "*-uvit-tiny-*-dc-ae-f64c128", **changed) -> None:
    options = {"protocol_name": None, "backend": None, "only": rows, "device": "cpu"} | changed
    profiling.profile_suite("suite-tiny", output, **options)


def records(folder: Path) -> dict[str, Record]:
    return {path.stem: Record.read(path) for path in sorted((folder / "records").rglob("*.json"))}


def test_rows_are_measured_once_and_an_interrupted_suite_goes_on(tmp_path, monkeypatch, capsys):
    name = "table3-512px-uvit-tiny-p1-dc-ae-f64c128"
    profile_suite(tmp_path)
    first = records(tmp_path)
    assert list(first) == [name]
    assert first[name].cell["tokens"] == 64
    assert first[name].conditions["training_batch_size"] == 4
    assert "there already" not in capsys.readouterr().out

    measured = []
    original = denoiser.Training.__init__

    def counted(self, module, inputs, *rest, **named):
        measured.append(inputs[0].shape[1])
        original(self, module, inputs, *rest, **named)

    monkeypatch.setattr(denoiser.Training, "__init__", counted)
    profile_suite(tmp_path, "*-uvit-tiny-p1-dc-ae-*")
    assert set(measured) == {32}  # latent channels of DC-AE-f32 alone
    assert records(tmp_path)[name] == first[name]
    assert f"{name}: there already" in capsys.readouterr().out
    assert len(records(tmp_path)) == 2

    changed = first[name].model_copy(update={"protocol_fingerprint": "another"})
    changed.write(tmp_path / "records" / "efficiency-tiny" / f"{name}.json")
    profile_suite(tmp_path)
    assert records(tmp_path)[name].protocol_fingerprint == first[name].protocol_fingerprint
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"efficiency-tiny-denoiser.{form}" for form in ("csv", "md", "html", "tex")
    }
    assert (tmp_path / "figures" / "ratios-efficiency-tiny.png").is_file()


def test_records_of_another_device_are_not_mixed_in(tmp_path):
    profile_suite(tmp_path)
    [record] = records(tmp_path).values()
    path = tmp_path / "records" / "efficiency-tiny" / "table3-512px-uvit-tiny-p1-dc-ae-f64c128.json"
    record.model_copy(update={"device": {"name": "Other GPU"}}).write(path)
    with pytest.raises(ConfigError, match="was measured on Other GPU"):
        profile_suite(tmp_path)


def test_rows_that_match_nothing_are_told_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no rows match 'table9'; there are: table3-512px-uvit-tiny-p2-sd-vae-f8"):
        profile_suite(tmp_path, "table9")


def test_a_suite_takes_no_options_of_a_cell_and_a_cell_needs_all_of_them(tmp_path):
    run = CliRunner().invoke(app, ["profile", "--suite", "suite-tiny", "--patch-size", "1", "--device", "cpu"])
    assert run.exit_code == 2
    assert "--output" in run.output
    run = CliRunner().invoke(app, ["profile", "config/demo.yaml", "--device", "cpu"])
    assert run.exit_code == 2
    assert "--diffusion" in run.output
