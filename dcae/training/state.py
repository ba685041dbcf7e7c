# SPDX-License-Identifier: Apache-2.0
"""The state folder of a training: it holds all that is needed to go on, and keeps two trainings from mixing.

    <state>/lock                    held by the process that trains
    <state>/<digest of identity>/   one folder for each identity, so that no training meets the state of another
        identity.json               what decides the result: digests of configuration, code and data, and the seed
        checkpoint-00000300.pt      the last two (module ``checkpoint``)
        log.jsonl                   losses, validation and speed over the steps
        attempts.json               attempts since the last progress
        result/, completed.json     the finished weights and the record that says so

The folder lies beside the training's output and is no declared output of any rule, since Snakemake deletes those when a
job fails or starts again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dcae.benchmark.entries import digest
from dcae.benchmark.record import write_atomically
from dcae.files import sha256
from dcae.training import checkpoint
from dcae.training.logging import report
from dcae.training.stopping import NoProgress

FAILED_ATTEMPTS = 2
STARTED_ATTEMPTS = 10  # an attempt killed from outside leaves no word of why; many in a row are no accident either
LOCK_WAIT_MINUTES = 60.0


class StateLocked(RuntimeError):
    """Another process holds the state folder for longer than this one waits."""


def _write_holder(file: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


@contextmanager
def lock(folder: Path, wait_minutes: float = LOCK_WAIT_MINUTES):
    """Hold the lock of a state folder; wait while another process holds it.

    A killed Snakemake leaves its jobs running, so a second process may be asked for a training that still runs. The
    kernel releases the lock when its holder dies. On a file system without locks, a message says so.

    Raises:
        StateLocked: after ``wait_minutes``; names the process that holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    held = FileLock(file, poll_interval=0.5, fallback_to_soft=False, on_acquired=_write_holder)
    holder = ""
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            holder = file.read_text().strip() or "a process that just started"
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


def _place(source: Path, target: Path) -> None:
    """Let ``target`` be the file ``source``: a second link to it, or a copy on another file system."""
    temporary = target.with_name(f".{target.name}.partial")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


class TrainingState:
    """The part of a state folder that belongs to one identity."""

    def __init__(self, state: Path, identity: dict[str, str]):
        self.identity = identity
        self.folder = Path(state) / digest(identity)
        self.log = self.folder / "log.jsonl"
        self._attempts = self.folder / "attempts.json"
        self._completed = self.folder / "completed.json"
        self._result = self.folder / "result"

    def create(self) -> None:
        """Make the folder; if there are states of other identities, say in what they differ, and leave them alone."""
        for other in sorted(self.folder.parent.glob("*/identity.json")):
            theirs = json.loads(other.read_text())
            names = sorted({*theirs, *self.identity})
            differing = [name for name in names if theirs.get(name) != self.identity.get(name)]
            if differing and not self.folder.exists():
                report(
                    f"the training in {other.parent} differs in {', '.join(differing)}; kept, and not continued here"
                )
        write_atomically(self.folder / "identity.json", json.dumps(self.identity, indent=1) + "\n")

    # --- checkpoints ---

    def save(self, step: int, content: dict) -> None:
        checkpoint.write(self.folder, step, {"identity": self.identity, **content})

    def newest_checkpoint(self) -> Path | None:
        return checkpoint.newest(self.folder)

    def read_checkpoint(self, path: Path) -> dict:
        """Content of a checkpoint; raises ``ValueError`` if it belongs to another training."""
        content = checkpoint.read(path)
        if content["identity"] != self.identity:
            raise ValueError(f"{path} belongs to another training: {content['identity']}, expected {self.identity}")
        return content

    def truncate_log(self, step: int) -> None:
        """Drop log lines after a step: they are written again when training goes on from there."""
        if self.log.exists():
            lines = self.log.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            write_atomically(self.log, "".join(f"{line}\n" for line in kept))

    # --- attempts ---

    def begin_attempt(self, step: int) -> None:
        """Note that an attempt starts at a step.

        Raises:
            NoProgress: earlier attempts started at this very step and failed.
        """
        attempts = self._read_attempts(step)
        if attempts["failed"] >= FAILED_ATTEMPTS or attempts["started"] >= STARTED_ATTEMPTS:
            raise NoProgress(
                f"{attempts['started']} attempts at this training got no further than step {step} "
                f"(last failure: {attempts['reason']}); mend the cause, remove {self._attempts}, and start it again"
            )
        self._write_attempts({**attempts, "started": attempts["started"] + 1})

    def attempt_failed(self, reason: str) -> None:
        """Note that the attempt failed by itself, which one that was stopped from outside did not."""
        attempts = json.loads(self._attempts.read_text())
        self._write_attempts({**attempts, "failed": attempts["failed"] + 1, "reason": reason})

    def _read_attempts(self, step: int) -> dict:
        attempts = json.loads(self._attempts.read_text()) if self._attempts.exists() else {"step": -1}
        fresh = {"step": step, "started": 0, "failed": 0, "reason": "none recorded, the process was killed"}
        return attempts if attempts["step"] == step else fresh

    def _write_attempts(self, attempts: dict) -> None:
        write_atomically(self._attempts, json.dumps(attempts, indent=1) + "\n")

    # --- completion ---

    def complete(self, save: Callable[[Path], None]) -> None:
        """Let ``save`` write the finished weights into a folder, keep them, and write the completion record."""
        temporary = self.folder / ".result.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save(temporary)
        shutil.copyfile(self.log, temporary / "training_log.jsonl")
        files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        _replace_folder(temporary, self._result)
        write_atomically(self._completed, json.dumps({"identity": self.identity, "files": files}, indent=1) + "\n")

    @property
    def is_complete(self) -> bool:
        return self._completed.exists()

    def publish(self, output: Path) -> None:
        """Put the finished weights into the output folder, unless they are there, and drop the checkpoints.

        Raises:
            RuntimeError: the training is complete, but its weights are gone from both places.
        """
        output.mkdir(parents=True, exist_ok=True)
        for name, expected in json.loads(self._completed.read_text())["files"].items():
            kept, wanted = self._result / name, output / name
            if kept.is_file() and wanted.is_file() and kept.samefile(wanted):
                continue
            whole = [path for path in (kept, wanted) if path.is_file() and sha256(path) == expected]
            if not whole:
                raise RuntimeError(
                    f"{self._completed} says that this training is complete, but neither {kept} nor {wanted} is what "
                    f"it wrote; restore one of them, or remove {self._completed} to train again"
                )
            _place(whole[0], wanted if whole[0] == kept else kept)
        for path in self.folder.glob(checkpoint.PATTERN):
            checkpoint.remove(path)
