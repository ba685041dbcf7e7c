# SPDX-License-Identifier: Apache-2.0
"""The state folder of a training: everything needed to continue it, separate for each identity.

    <state>/lock                    held by the training process
    <state>/<digest of identity>/   one folder per identity, so that trainings do not mix
        identity.json               everything that decides the result: configuration, version, data and seed
        checkpoint-00000300.pt      the last two checkpoints
        log.jsonl                   losses, validation and speed over the steps
        attempts.json               attempts since the last progress
        result/, completed.json     the finished weights, and the record of completion (``taken_from``: of another
                                    benchmark's training of the same identity)

The folder is next to the training's output and is not a declared output of any rule, since Snakemake deletes outputs
when a job fails or starts again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from dcae.benchmark.entries import digest
from dcae.benchmark.record import write_atomically
from dcae.files import replacing, sha256
from dcae.training.logging import report
from dcae.training.stopping import NoProgress, Unfinished

FAILED_ATTEMPTS = 2
STARTED_ATTEMPTS = 10  # killed attempts leave no reason; many in a row are no accident
LOCK_WAIT_MINUTES = 60.0
KEPT_CHECKPOINTS = 2
CHECKPOINTS = "checkpoint-*.pt"


class StateLocked(Unfinished):
    """Another process holds the state folder for longer than the wait limit."""


class StateDamaged(RuntimeError):
    """Files of a finished training are not as they were written."""


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a file; ``None`` if it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _fresh_attempts(step: int) -> dict[str, Any]:
    return {"step": step, "started": 0, "failed": 0, "reason": "none recorded, the process was killed"}


def _write_holder(file: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


@contextmanager
def lock(folder: Path, wait_minutes: float | None = None):
    """Hold the lock of a state folder; wait while another process holds it.

    A killed Snakemake leaves its jobs running, so a second process may be asked for a training that still runs. The
    kernel releases the lock when its holder dies. On a file system without locks, a message says so.

    Args:
        folder: of the state.
        wait_minutes: default: an hour, but no time in a job of Slurm, which would keep its GPU from others.

    Raises:
        StateLocked: after ``wait_minutes``; names the process that holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    held = FileLock(file, poll_interval=0.5, fallback_to_soft=False, on_acquired=_write_holder)
    holder = ""
    if wait_minutes is None:
        wait_minutes = 0.0 if "SLURM_JOB_ID" in os.environ else LOCK_WAIT_MINUTES
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            holder = file.read_text(encoding="utf-8").strip() or "a process that just started"
            if wait_minutes:
                report(f"{folder} is in use by {holder}; waiting up to {wait_minutes:g} minutes")
            held.acquire(timeout=60 * wait_minutes)
    except Timeout:
        raise StateLocked(f"{folder} is in use by {holder}; wait for it or stop it") from None
    except OSError as error:
        report(f"{folder}: no lock ({error}); make sure that nothing else trains the same meanwhile")
    try:
        yield
    finally:
        held.release()


def _replace_folder(temporary: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


# --- Checkpoints: tensors only, verified when read --------------------------------------------------------------------


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"checkpoint-{step:08d}.pt"


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def write_checkpoint(folder: Path, step: int, content: dict[str, Any]) -> Path:
    """Write a step's checkpoint (tensors, numbers, strings and containers of them), and remove all but the last two.

    The file is renamed into place once complete, after its digest.
    """
    path = checkpoint_path(folder, step)
    # One name, so that killed processes leave at most one.
    with replacing(path, folder / ".checkpoint.partial") as temporary:
        with temporary.open("wb") as file:
            torch.save({"step": step, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        _digest_file(path).write_text(sha256(temporary) + "\n", encoding="utf-8")
    for old in sorted(folder.glob(CHECKPOINTS))[:-KEPT_CHECKPOINTS]:
        remove_checkpoint(old)
    return path


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and its digest."""
    path.unlink(missing_ok=True)
    _digest_file(path).unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    digest_file = _digest_file(path)
    return digest_file.is_file() and sha256(path) == digest_file.read_text(encoding="utf-8").strip()


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; a damaged one is renamed to ``*.unreadable`` and reported."""
    for path in sorted(folder.glob(CHECKPOINTS), reverse=True):
        if _is_whole(path):
            return path
        aside = path.with_suffix(".pt.unreadable")
        os.replace(path, aside)
        report(f"checkpoint {path} is damaged; kept as {aside.name}, going back to the previous one")
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU; tensors are read from the file when they are used.

    So that the processes of one machine do not each hold a copy.
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


# --- The part of one training -----------------------------------------------------------------------------------------


class TrainingState:
    """The part of a state folder of one identity."""

    def __init__(self, state: Path, identity: dict[str, str]):
        self.identity = identity
        self.folder = Path(state) / digest(identity)
        self.log = self.folder / "log.jsonl"
        self._attempts = self.folder / "attempts.json"
        self._completed = self.folder / "completed.json"
        self._result = self.folder / "result"

    def create(self) -> None:
        """Create the folder; report how existing states of other identities differ, and keep them."""
        for other in sorted(self.folder.parent.glob("*/identity.json")):
            theirs = _read_json(other) or {}
            names = sorted({*theirs, *self.identity})
            differing = [name for name in names if theirs.get(name) != self.identity.get(name)]
            if differing and not self.folder.exists():
                report(
                    f"the training in {other.parent} differs in {', '.join(differing)}; kept, and not continued here"
                )
        write_atomically(self.folder / "identity.json", json.dumps(self.identity, indent=1) + "\n")

    # --- checkpoints ---

    def save(self, step: int, content: dict) -> None:
        write_checkpoint(self.folder, step, {"identity": self.identity, **content})

    def newest_checkpoint(self) -> Path | None:
        return newest_checkpoint(self.folder)

    def read_checkpoint(self, path: Path) -> dict:
        """Return the content of a checkpoint; raises ``ValueError`` if it belongs to another training."""
        content = read_checkpoint(path)
        if content["identity"] != self.identity:
            raise ValueError(f"{path} belongs to another training: {content['identity']}, expected {self.identity}")
        return content

    def truncate_log(self, step: int) -> None:
        """Remove log lines after a step; training writes them again from there."""
        if self.log.exists():
            lines = self.log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            write_atomically(self.log, "".join(f"{line}\n" for line in kept))

    # --- attempts ---

    def begin_attempt(self, step: int) -> None:
        """Record that an attempt starts at a step.

        Raises:
            NoProgress: earlier attempts at this step failed.
        """
        attempts = self._read_attempts(step)
        if attempts["failed"] >= FAILED_ATTEMPTS or attempts["started"] >= STARTED_ATTEMPTS:
            raise NoProgress(
                f"{attempts['started']} attempts at this training got no further than step {step} "
                f"(last failure: {attempts['reason']}); fix the cause, remove {self._attempts}, and start it again"
            )
        self._write_attempts({**attempts, "started": attempts["started"] + 1})

    def attempt_failed(self, reason: str) -> None:
        """Record that the attempt failed by itself, not stopped from outside."""
        attempts = _read_json(self._attempts) or _fresh_attempts(0)
        self._write_attempts({**attempts, "failed": attempts["failed"] + 1, "reason": reason})

    def _read_attempts(self, step: int) -> dict:
        attempts = _read_json(self._attempts)
        return attempts if attempts and attempts["step"] == step else _fresh_attempts(step)

    def _write_attempts(self, attempts: dict) -> None:
        write_atomically(self._attempts, json.dumps(attempts, indent=1) + "\n")

    # --- completion ---

    def complete(self, save: Callable[[Path], None]) -> None:
        """Keep the finished weights that ``save`` writes into a folder, and write the completion record."""
        temporary = self.folder / ".result.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save(temporary)
        shutil.copyfile(self.log, temporary / "training_log.jsonl")
        files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        self._keep(temporary, {"identity": self.identity, "files": files})

    def take_over(self, states: Iterable[Path]) -> Path | None:
        """Copy the finished weights of the same training from another state folder, and return where they were.

        The copies are compared with the recorded sha256, so that it does not matter what becomes of the other folder
        meanwhile, or later. One that is damaged is reported and not taken.
        """
        temporary = self.folder / ".result.partial"
        for other in (TrainingState(each, self.identity) for each in states):
            completed = _read_json(other._completed)
            if completed is None or completed.get("identity") != self.identity:
                continue
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.copytree(other._result, temporary)
                if {path.name: sha256(path) for path in temporary.iterdir()} == completed["files"]:
                    self._keep(temporary, completed | {"taken_from": str(other.folder)})
                    return other.folder
            except FileNotFoundError:
                pass
            report(f"{other._result} is not as its training wrote it; not taken over")
        return None

    def _keep(self, temporary: Path, completed: dict[str, Any]) -> None:
        _replace_folder(temporary, self._result)
        write_atomically(self._completed, json.dumps(completed, indent=1) + "\n")

    @property
    def is_complete(self) -> bool:
        return self._completed.exists()

    def publish(self, output: Path) -> None:
        """Put the finished weights into the output folder, and remove the checkpoints.

        Raises:
            StateDamaged: the training is complete, but its weights are missing or damaged in both places.
        """
        completed = _read_json(self._completed)
        if completed is None:
            raise StateDamaged(f"{self._completed} is damaged; restore it, or remove it to train again")
        for name, expected in completed["files"].items():
            kept, wanted = self._result / name, output / name
            whole = [path for path in (kept, wanted) if path.is_file() and sha256(path) == expected]
            if not whole:
                raise StateDamaged(
                    f"{self._completed} says that this training is complete, but neither {kept} nor {wanted} has "
                    f"the recorded content; restore one of them, or remove {self._completed} to train again"
                )
            if len(whole) == 1:  # copies, not links: damage of one is not damage of both
                with replacing(wanted if whole[0] == kept else kept) as temporary:
                    shutil.copyfile(whole[0], temporary)
        for path in self.folder.glob(CHECKPOINTS):
            remove_checkpoint(path)
