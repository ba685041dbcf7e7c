# SPDX-License-Identifier: Apache-2.0
"""The state folder: its lock, and what becomes of finished weights."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from dcae.files import DiskFull
from dcae.training.state import (
    StateDamaged,
    StateLocked,
    TrainingState,
    lock,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from dcae.training.stopping import Unfinished

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = {"configuration": "a", "code": "b"}


def holder(folder: Path) -> subprocess.Popen:
    """Another process that holds the lock until it is killed."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from dcae.training.state import lock\n"
        "with lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_waits_names_its_holder_and_is_free_once_the_holder_is_killed(tmp_path, capsys):
    process = holder(tmp_path)
    try:
        expected = pytest.raises(StateLocked, match=f"in use by process {process.pid} on ")
        with expected, lock(tmp_path, wait_minutes=0):
            pass
        threading.Timer(0.7, process.kill).start()
        with lock(tmp_path, wait_minutes=1):
            assert str(os.getpid()) in (tmp_path / "lock").read_text()
    finally:
        process.kill()
        process.wait()
    assert f"in use by process {process.pid}" in capsys.readouterr().out


def test_a_job_of_slurm_does_not_keep_its_gpu_waiting_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4")
    started = time.monotonic()
    with lock(tmp_path), pytest.raises(StateLocked, match="in use by process") as caught, lock(tmp_path):
        pass
    assert time.monotonic() - started < 10
    assert isinstance(caught.value, Unfinished)  # whose exit status is that of a training that goes on


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(tmp_path, wait_minutes=0):
        assert f"{tmp_path}: no lock" in capsys.readouterr().out


def test_a_second_training_waits_for_the_first_and_finds_it_complete(toy, tmp_path, capsys):
    """As after a killed Snakemake, whose jobs go on while its successor asks for the same training."""
    program = str(Path(__file__).with_name("toy.py"))
    first = subprocess.Popen(
        [sys.executable, "-u", program, str(tmp_path), "0.1"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert first.stdout.readline().startswith("toy  step 1/12")

    def must_not_run(*_):
        raise AssertionError("trained a second time")

    toy.train(tmp_path, must_not_run)
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert "waiting up to 60 minutes" in capsys.readouterr().out


@pytest.fixture
def finished(tmp_path) -> TrainingState:
    state = TrainingState(tmp_path / "state", IDENTITY)
    state.create()
    state.log.write_text('{"step": 1}\n')
    state.complete(lambda folder: (folder / "weights").write_text("trained"))
    return state


def test_finished_weights_are_restored_from_either_place(finished, tmp_path):
    output, kept = tmp_path / "output", finished.folder / "result" / "weights"
    finished.publish(output)
    assert (output / "weights").read_text() == "trained"
    (output / "weights").unlink()
    finished.publish(output)
    kept.unlink()
    finished.publish(output)
    assert kept.read_text() == (output / "weights").read_text() == "trained"
    assert sorted(path.name for path in output.iterdir()) == ["training_log.jsonl", "weights"]


@pytest.mark.parametrize("place", ["output", "kept"])
def test_weights_that_are_damaged_in_one_place_are_restored_from_the_other(finished, tmp_path, place):
    finished.publish(tmp_path / "output")
    paths = {"output": tmp_path / "output" / "weights", "kept": finished.folder / "result" / "weights"}
    with paths[place].open("r+b") as file:  # in place, as a disk does it
        file.write(b"T")
    finished.publish(tmp_path / "output")
    assert [path.read_text() for path in paths.values()] == ["trained", "trained"]


def test_damaged_notes_of_attempts_and_of_other_trainings_end_nothing(finished, tmp_path):
    (finished.folder / "identity.json").write_text('{"confi')
    other = TrainingState(tmp_path / "state", IDENTITY | {"configuration": "other"})
    other.create()
    other.begin_attempt(0)
    (other.folder / "attempts.json").write_text("")
    other.attempt_failed("a reason")
    other.begin_attempt(0)


def test_a_damaged_completion_record_is_named(finished, tmp_path):
    (finished.folder / "completed.json").write_text("{")
    with pytest.raises(StateDamaged, match=r"completed\.json is damaged; restore it, or remove it"):
        finished.publish(tmp_path / "output")


def test_a_full_disk_is_named_and_keeps_no_half_checkpoint(tmp_path):
    write_checkpoint(tmp_path, 1, {"weights": torch.zeros(10)})
    (tmp_path / ".checkpoint.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=rf"{tmp_path}: no space left to write checkpoint-00000002.pt, .* MB are free"):
        write_checkpoint(tmp_path, 2, {"weights": torch.zeros(1_000_000)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000001.pt",
        "checkpoint-00000001.pt.sha256",
    ]
    write_checkpoint(tmp_path, 2, {"weights": torch.zeros(10)})


def test_an_output_of_something_else_is_replaced(finished, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "weights").write_text("of another training")
    finished.publish(tmp_path / "output")
    assert (tmp_path / "output" / "weights").read_text() == "trained"


def test_weights_lost_from_both_places_are_an_error_and_no_reason_to_train_again(finished, tmp_path):
    (finished.folder / "result" / "weights").unlink()
    with pytest.raises(RuntimeError, match=r"completed\.json says .*restore one of them, or remove .*completed\.json"):
        finished.publish(tmp_path / "output")
    assert finished.is_complete


def test_weights_that_could_not_be_saved_leave_no_completion_record(tmp_path):
    state = TrainingState(tmp_path / "state", IDENTITY)
    state.create()
    state.log.write_text("")

    def fails(folder):
        (folder / "weights").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        state.complete(fails)
    assert not state.is_complete
    assert not (state.folder / "result").exists()


def test_half_a_log_line_is_dropped_with_the_lines_after_the_checkpoint(tmp_path):
    state = TrainingState(tmp_path / "state", IDENTITY)
    state.create()
    state.log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    state.truncate_log(2)
    assert state.log.read_text() == '{"step": 1}\n{"step": 2}\n'


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept_and_read_back(tmp_path):
    for step in (10, 20, 30):
        write_checkpoint(tmp_path, step, {"weights": {"w": torch.full((2,), float(step))}, "rates": [0.1, (1, "a")]})
    assert names(tmp_path) == [f"checkpoint-{step:08d}.pt{ending}" for step in (20, 30) for ending in ("", ".sha256")]
    content = read_checkpoint(newest_checkpoint(tmp_path))
    assert content["step"] == 30
    assert content["weights"]["w"].tolist() == [30, 30]
    assert content["rates"] == [0.1, (1, "a")]


def test_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "digest"])
def test_a_damaged_one_is_set_aside(tmp_path, capsys, damage):
    old = write_checkpoint(tmp_path, 1, {"w": torch.zeros(100)})
    new = write_checkpoint(tmp_path, 2, {"w": torch.ones(100)})
    content = new.read_bytes()
    middle = len(content) // 2
    if damage == "digest":
        new.with_suffix(".pt.sha256").unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        new.write_bytes({"empty": b"", "cut": content[:middle], "bit": flipped}[damage])
    assert newest_checkpoint(tmp_path) == old
    assert "checkpoint-00000002.pt is damaged" in capsys.readouterr().out
    assert (tmp_path / "checkpoint-00000002.pt.unreadable").exists()


def test_a_write_that_fails_leaves_the_checkpoints_alone(tmp_path):
    old = write_checkpoint(tmp_path, 1, {"w": torch.zeros(3)})
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(tmp_path, 2, {"w": lambda: None})
    assert newest_checkpoint(tmp_path) == old


def test_code_is_not_read(tmp_path):
    """A file of foreign origin may hold pickled code; reading a checkpoint must not run it."""
    path = write_checkpoint(tmp_path, 1, {"w": Surprise()})
    with pytest.raises(Exception, match="Weights only load failed"):
        read_checkpoint(path)


class Surprise:
    def __reduce__(self):
        return (pytest.fail, ("code inside a checkpoint was run",))


# --- trainings of other benchmarks ---


def empty_state(folder: Path, identity: dict[str, str] = IDENTITY) -> TrainingState:
    state = TrainingState(folder, identity)
    state.create()
    return state


def test_what_is_taken_over_does_not_depend_on_where_it_was_trained(finished, tmp_path):
    state = empty_state(tmp_path / "other.state")
    assert state.take_over([tmp_path / "none", tmp_path / "state"]) == finished.folder
    (finished.folder / "result" / "weights").write_text("damaged later")
    state.publish(tmp_path / "output")
    assert (tmp_path / "output" / "weights").read_text() == "trained"
    assert f'"taken_from": "{finished.folder}"' in (state.folder / "completed.json").read_text()


@pytest.mark.parametrize("damage", ["weights", "lost", "record", "half", "identity"])
def test_what_is_damaged_unfinished_or_another_training_is_not_taken_over(finished, tmp_path, capsys, damage):
    weights, record = finished.folder / "result" / "weights", finished.folder / "completed.json"
    identity = IDENTITY | ({"configuration": "other"} if damage == "identity" else {})
    if damage == "weights":
        weights.write_text("TRAINED")
    elif damage == "lost":
        weights.unlink()
    elif damage == "record":
        record.write_text("{")
    elif damage == "half":
        record.unlink()
    state = empty_state(tmp_path / "other.state", identity)
    assert state.take_over([tmp_path / "state"]) is None and not state.is_complete
    reported = f"{weights.parent} is not as its training wrote it; not taken over" in capsys.readouterr().out
    assert reported == (damage in ("weights", "lost"))
