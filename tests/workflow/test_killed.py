# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at any moment, then the same command again: the same tables as an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.workflow import kill_storm
from tests.workflow.conftest import TINY, Clone, tables_of

COMMAND = ("snakemake", "--cores", "2", "--configfile", TINY)


def start(clone: Clone) -> subprocess.Popen:
    return subprocess.Popen(
        COMMAND,
        cwd=clone.folder,
        env=clone.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run did not get as far as the test needs"
        time.sleep(0.02)


def end(run: subprocess.Popen) -> None:
    """Kill a run that this test started, with everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait(timeout=30)


def quality_tables(clone: Clone) -> dict[str, bytes]:
    """The tables without measured times, which differ from run to run."""
    return {name: content for name, content in tables_of(clone).items() if not name.startswith("table3")}


MOMENTS = {
    "in the first training": "autoencoders/dc-ae-tiny/low-resolution-full.state/*/checkpoint-*.pt",
    "between the phases": "autoencoders/dc-ae-tiny/low-resolution-full/diffusion_pytorch_model.safetensors",
    "while measuring": "records/reconstruction/scenes-tiny-64/*.json",
}
MEASURED = ("records/reconstruction", "records/generation", "per_image", "tables", "figures")
TRAINED = ("autoencoders/dc-ae-tiny", "latents", "diffusion", "generated")


@pytest.mark.parametrize(
    ("moment", "missing", "everything"),
    [
        ("in the first training", TRAINED + MEASURED, True),
        ("between the phases", TRAINED + MEASURED, False),
        ("while measuring", MEASURED, True),
    ],
    ids=MOMENTS,
)
def test_a_killed_run_goes_on_to_the_same_tables(finished, tmp_path, moment, missing, everything):
    """Of a run that finds some of the results, and has to make the others."""
    clone = Clone(tmp_path / "begun")
    shutil.copytree(finished.folder, clone.folder, symlinks=True)
    for name in missing:
        shutil.rmtree(clone.folder / "results/tiny" / name)
    run = start(clone)
    try:
        wait_for(lambda: any((clone.folder / "results/tiny").glob(MOMENTS[moment])))
        if not everything:
            os.kill(run.pid, signal.SIGKILL)  # its jobs go on without it
            run.wait(timeout=30)
        else:
            end(run)
        assert any((clone.folder / ".snakemake/locks").iterdir()), "the killed run left no lock, so this tests nothing"
        again = clone.run(*COMMAND)
        assert "it is removed" in again.stderr
    finally:
        end(run)
    assert quality_tables(clone) == quality_tables(finished)


def test_two_live_runs_collide(clone):
    run = start(clone)
    try:
        locks = clone.folder / ".snakemake/locks"
        wait_for(lambda: locks.is_dir() and any(locks.iterdir()))
        second = clone.run(*COMMAND, check=False)
        assert second.returncode != 0
        assert "lock" in (second.stdout + second.stderr).lower()
        assert run.poll() is None, "the first run must not be disturbed"
    finally:
        end(run)


def test_kills_at_random_moments_leave_the_same_results(finished, clone):
    """A short form of ``python -m tests.workflow.kill_storm``."""
    kill_storm.storm(clone, kill_storm.results_of(finished), times=3, longest=30, seed=1)
