# SPDX-License-Identifier: Apache-2.0
"""``dcae profile-suite``: one record for each row, measured once, with tables and a figure of what is there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcae.benchmark import Config, Record, Value
from dcae.benchmark.config import ConfigError
from dcae.training.stopping import Unfinished
from evaluation.efficiency import denoiser, suite, training, worker
from evaluation.efficiency.memory import BackendError
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.worker import ProcessEnded, Worker
from workflow.cli import app
from workflow.commands import profile_suite as command

TINY = Path(__file__).parent / "config"


class ThisProcess(Worker):
    """Calls in the process of the test, which loads torch once."""

    ended = 0

    def call(self, function, *arguments, seconds):
        return function(*arguments)

    def end(self):
        ThisProcess.ended += 1


@pytest.fixture(autouse=True)
def _tiny_config(monkeypatch):
    monkeypatch.setattr(command, "Config", lambda: Config(TINY))
    monkeypatch.setattr(worker, "Worker", ThisProcess)


def profile_suite(output: Path, rows: str = "*-uvit-tiny-*-dc-ae-f64c128", **changed) -> None:
    options = {"rows": rows, "device": "cpu"} | changed
    command.profile_suite("suite-tiny", output, **options)


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
    original = training.Training.__init__

    def counted(self, module, inputs, *rest, **named):
        measured.append(inputs[0].shape[1])
        original(self, module, inputs, *rest, **named)

    monkeypatch.setattr(training.Training, "__init__", counted)
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


def test_a_row_that_fails_has_a_record_with_the_reason_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    def fails(shape, protocol, device):
        if shape.latent_channels == 32:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")
        return Profile(excluded={"latency_ms": "failed: compiler"})

    monkeypatch.setattr(suite, "profile_denoiser", fails)
    ended = ThisProcess.ended
    profile_suite(tmp_path, "*-uvit-tiny-p1-dc-ae-*")
    found = records(tmp_path)
    why = "failed: RuntimeError: CUDA error: an illegal memory access was encountered"
    assert found["table3-512px-uvit-tiny-p1-dc-ae-f32c32"].excluded == dict.fromkeys(denoiser.VALUES, why)
    assert found["table3-512px-uvit-tiny-p1-dc-ae-f64c128"].excluded == {"latency_ms": "failed: compiler"}
    assert ThisProcess.ended == ended + 3  # after each failure, and at last
    assert f"latency_ms: {why}" in capsys.readouterr().out
    assert "failed" in (tmp_path / "tables" / "efficiency-tiny-denoiser.md").read_text()


def test_a_process_that_is_killed_costs_its_row_and_the_time_limit_costs_none(tmp_path, monkeypatch):
    def killed(self, function, *arguments, seconds):
        if function is suite.measure_row:
            raise ProcessEnded("its process was killed by signal 9")
        return function(*arguments)

    monkeypatch.setattr(ThisProcess, "call", killed)
    with pytest.raises(Unfinished, match="0 of 1 rows are done; the same command goes on"):
        profile_suite(tmp_path, time_limit=0)
    assert records(tmp_path) == {}
    profile_suite(tmp_path)
    [record] = records(tmp_path).values()
    assert set(record.excluded.values()) == {"failed: ProcessEnded: its process was killed by signal 9"}


def test_another_run_of_a_row_keeps_its_values_and_tells_if_they_do_not_agree(tmp_path, monkeypatch):
    speeds = iter([[100, 101, 102], [100, 99, 101], [110, 111, 112]])

    def measured(shape, protocol, device):
        repeats = next(speeds)
        value = Value(value=repeats[1], n=3, unit="images/s", repeats=repeats)
        return Profile(values={"parameters": Value(value=7, n=1), "inference_images_per_second": value})

    monkeypatch.setattr(suite, "profile_denoiser", measured)
    profile_suite(tmp_path)
    profile_suite(tmp_path, again=True)
    [record] = records(tmp_path).values()
    assert record.values["inference_images_per_second"].value == 101
    assert record.values["inference_images_per_second"].repeats == [100, 101, 102, 100, 99, 101]
    assert record.remarks == []
    profile_suite(tmp_path, again=True)
    [record] = records(tmp_path).values()
    assert record.conditions["runs"] == 3
    assert [each[:60] for each in record.remarks] == ["inference_images_per_second: repeats differ by 12.9%, more t"]
    assert "<sup>u</sup>" in (tmp_path / "tables" / "efficiency-tiny-denoiser.md").read_text()


def test_a_missing_backend_ends_the_suite(tmp_path):
    with pytest.raises(BackendError, match="tensorrt"):
        profile_suite(tmp_path, backend="tensorrt")
    assert records(tmp_path) == {}


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
def test_whole_pipelines_have_no_backend_that_would_not_be_used(tmp_path, backend):
    with pytest.raises(ConfigError, match=f"run eager or compiled: leave out --backend {backend}"):
        profile_suite(tmp_path, protocol="end-to-end", backend=backend)
    assert records(tmp_path) == {}


def test_another_run_begins_with_the_rows_that_had_the_fewest(tmp_path, monkeypatch, capsys):
    def measured(shape, protocol, device):
        value = Value(value=100, n=1, unit="images/s", repeats=[100])
        return Profile(values={"inference_images_per_second": value})

    monkeypatch.setattr(suite, "profile_denoiser", measured)
    both, first = "*-uvit-tiny-*", "*-uvit-tiny-*-dc-ae-f64c128"
    profile_suite(tmp_path, rows=both)
    [often] = [name for name in records(tmp_path) if name.endswith("dc-ae-f64c128")]
    profile_suite(tmp_path, rows=first, again=True)
    capsys.readouterr()
    profile_suite(tmp_path, rows=both, again=True)
    order = [line.split("] ")[1].split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(order) > 1 and order[-1] == often


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


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [(["profile-suite", "suite-tiny"], "--output"), (["profile", "config/demo.yaml"], "--diffusion")],
)
def test_a_missing_option_is_named(arguments, missing):
    run = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert run.exit_code == 2
    assert missing in run.output
