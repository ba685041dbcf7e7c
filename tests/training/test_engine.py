# SPDX-License-Identifier: Apache-2.0
"""The training loop: exact resume, stopping, divergence, completion."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcae.benchmark import Config
from dcae.training.engine import accelerator_for
from dcae.training.state import TrainingState, newest_checkpoint, read_checkpoint
from dcae.training.stopping import NoProgress, TrainingDiverged, Unfinished

ROOT = Path(__file__).resolve().parents[2]


class Stop(Exception):
    pass


def stop_at(step: int):
    def disturb(now, _network):
        if now == step:
            raise Stop(f"stopped at step {step}")

    return disturb


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


def state_folder(toy, folder: Path) -> Path:
    return TrainingState(folder / "state", toy.IDENTITY).folder


@pytest.fixture(scope="module")
def reference(toy, tmp_path_factory) -> dict:
    """Weights of a training that nothing disturbed."""
    return toy.train(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("step", range(1, 12))
def test_a_training_stopped_at_any_step_and_started_again_ends_with_the_same_bits(toy, tmp_path, reference, step):
    with pytest.raises(Stop):
        toy.train(tmp_path, stop_at(step))
    torch.manual_seed(step)  # whatever the new process did before must not matter
    assert_equal(toy.train(tmp_path), reference)


def test_the_reference_depends_on_data_and_dropout_alone(toy, tmp_path, reference):
    torch.manual_seed(1234)
    assert_equal(toy.train(tmp_path), reference)
    assert not torch.equal(reference["0.weight"], reference["average.0.weight"])


def start_program(folder: Path, seconds_per_step: float) -> subprocess.Popen:
    command = [sys.executable, "-u", str(Path(__file__).with_name("toy.py")), str(folder), str(seconds_per_step)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})


def test_a_killed_program_goes_on_to_the_same_bits(toy, tmp_path, reference):
    program = start_program(tmp_path, seconds_per_step=0.3)
    assert program.stdout.readline().startswith("toy  step 1/12  loss ")
    program.kill()
    program.communicate(timeout=60)
    assert not (tmp_path / "output").exists()
    assert_equal(toy.train(tmp_path), reference)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_saves_it(toy, tmp_path, reference, number):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]

    def send(step, _network):
        if step == 6:
            os.kill(os.getpid(), number)

    with pytest.raises(Unfinished, match=f"stopped by {number.name}, saved at step 7/12"):
        toy.train(tmp_path, send)
    assert newest_checkpoint(state_folder(toy, tmp_path)).name == "checkpoint-00000007.pt"
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert_equal(toy.train(tmp_path), reference)


def test_a_time_slice_ends_in_a_saved_state_and_the_next_one_goes_on(toy, tmp_path, reference, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Unfinished, match="time slice used up, saved at step 6/12"):
        clock = iter([False] * 6 + [True] * 9)
        patch.setattr("dcae.training.stopping.StopRequest.out_of_time", lambda *_: next(clock))
        toy.train(tmp_path, time_limit_minutes=1)
    assert_equal(toy.train(tmp_path, time_limit_minutes=60), reference)


def test_time_slices_too_short_for_a_step_are_refused_after_two(toy, tmp_path):
    for _ in range(2):
        with pytest.raises(Unfinished, match="time slice used up"):
            toy.train(tmp_path, time_limit_minutes=0)
    with pytest.raises(NoProgress, match=r"got no further than step 0 .*time limit.*remove .*attempts.json"):
        toy.train(tmp_path, time_limit_minutes=0)


def test_attempts_that_fail_at_one_step_are_refused_after_two_and_progress_resets_the_count(toy, tmp_path, reference):
    for step in (3, 3):
        with pytest.raises(Stop):
            toy.train(tmp_path, stop_at(step))
    with pytest.raises(NoProgress, match="Stop: stopped at step 3"):
        toy.train(tmp_path)
    (state_folder(toy, tmp_path) / "attempts.json").unlink()
    for step in (5, 6, 9, 10):  # from checkpoints 0, 4, 4, 8
        with pytest.raises(Stop):
            toy.train(tmp_path, stop_at(step))
    assert_equal(toy.train(tmp_path), reference)


def test_processes_share_gradients_without_copies_of_them():
    denoiser, autoencoder = (Config().entry("recipes", name) for name in ("dit", "dc-ae-three-phase"))
    for settings, static in ((denoiser, True), (autoencoder.phases[2], False)):
        handler = accelerator_for(settings.model_copy(update={"precision": "fp32"})).ddp_handler
        assert (handler.gradient_as_bucket_view, handler.broadcast_buffers) == (True, False)
        assert handler.static_graph == static


def test_a_loss_that_is_not_finite_ends_the_training_and_leaves_the_last_good_checkpoint(toy, tmp_path):
    def poison(step, network):
        if step == 9:
            network[0].weight.data.fill_(torch.nan)

    with pytest.raises(TrainingDiverged, match=r"toy: loss is not finite at step 10 .*checkpoint-00000008\.pt"):
        toy.train(tmp_path, poison)
    assert not (tmp_path / "output").exists()
    last = newest_checkpoint(state_folder(toy, tmp_path))
    assert last.name == "checkpoint-00000008.pt"
    weights = read_checkpoint(last)["stateful"]["network"]
    assert all(value.isfinite().all() for value in weights.values())


def test_weights_that_are_not_finite_are_never_saved(toy, tmp_path):
    def poison(step, network):
        if step == 7:  # after the loss of this step was computed, by its very update
            network[4].bias.register_hook(lambda gradient: gradient * torch.nan)

    with pytest.raises(TrainingDiverged, match="weights of network are not finite after step 8"):
        toy.train(tmp_path, poison)
    assert newest_checkpoint(state_folder(toy, tmp_path)).name == "checkpoint-00000004.pt"


def test_a_complete_training_returns_at_once_and_restores_a_lost_output(toy, tmp_path, reference, capsys):
    toy.train(tmp_path)
    output = tmp_path / "output" / "weights.safetensors"
    before = output.stat().st_mtime_ns
    assert_equal(toy.train(tmp_path, stop_at(0)), reference)
    assert output.stat().st_mtime_ns == before
    output.unlink()
    assert_equal(toy.train(tmp_path, stop_at(0)), reference)
    assert capsys.readouterr().out.count("was complete already") == 2
    assert list(state_folder(toy, tmp_path).glob("checkpoint-*")) == []


def test_another_identity_starts_anew_and_keeps_the_other_state(toy, tmp_path, reference, capsys):
    with pytest.raises(Stop):
        toy.train(tmp_path, stop_at(9))
    other = {**toy.IDENTITY, "code": "changed"}
    assert_equal(toy.train(tmp_path, identity=other), reference)
    printed = capsys.readouterr().out
    assert "differs in code; kept" in printed
    assert "goes on" not in printed
    assert_equal(toy.train(tmp_path), reference)
    assert "goes on from step 8/12" in capsys.readouterr().out


def test_lines_on_the_screen_and_in_the_log(toy, tmp_path, capsys):
    with pytest.raises(Stop):
        toy.train(tmp_path, stop_at(7))
    toy.train(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    pattern = r"toy  step (\d+)/12  loss \d+\.\d{4}  \d+ images/s"
    shown = [int(match.group(1)) for line in lines if (match := re.fullmatch(pattern, line))]
    assert shown == [1, 5, 12]
    log = [json.loads(line) for line in (tmp_path / "output" / "training_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in log if "validation_toy" in line] == [2, 4, 6, 8, 10, 12]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(toy, tmp_path, reference, capsys):
    with pytest.raises(Stop):
        toy.train(tmp_path, stop_at(9))
    newest = newest_checkpoint(state_folder(toy, tmp_path))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    newest.write_bytes(content)
    assert_equal(toy.train(tmp_path), reference)
    printed = capsys.readouterr().out
    assert "checkpoint-00000008.pt is damaged" in printed
    assert "goes on from step 4/12" in printed


def test_a_checkpoint_of_another_identity_is_refused(toy, tmp_path):
    with pytest.raises(Stop):
        toy.train(tmp_path, stop_at(9))
    other = {**toy.IDENTITY, "seed": "1"}
    target = TrainingState(tmp_path / "state", other).folder
    state_folder(toy, tmp_path).rename(target)
    with pytest.raises(ValueError, match="belongs to another training"):
        toy.train(tmp_path, identity=other)


def test_a_training_that_is_finished_elsewhere_is_taken_over_without_a_step(toy, tmp_path, capsys):
    def disturb(step, _network):
        raise Stop(f"trains step {step}")

    trained = toy.train(tmp_path / "a")
    folders = [tmp_path / "missing" / "state", tmp_path / "a" / "state"]
    assert_equal(toy.train(tmp_path / "b", disturb, elsewhere=folders), trained)
    assert f"taken from {state_folder(toy, tmp_path / 'a')}, equal configuration and data" in capsys.readouterr().out
    assert (tmp_path / "b" / "output" / "training_log.jsonl").read_bytes() == (
        tmp_path / "a" / "output" / "training_log.jsonl"
    ).read_bytes()
    with pytest.raises(Stop, match="trains step 0"):
        toy.train(tmp_path / "c", disturb, identity=toy.IDENTITY | {"seed": "1"}, elsewhere=folders)
