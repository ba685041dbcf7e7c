# SPDX-License-Identifier: Apache-2.0
"""The local Slurm leaves alone what is not its own. That it works, tests/workflow/test_slurm.py shows."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.slurm import local_slurm


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which everything is there; its /etc/slurm is a folder of the test's."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(local_slurm, "PROGRAMS", ())
    monkeypatch.setattr(local_slurm, "SLURM_CONFIG", tmp_path / "slurm.conf")
    monkeypatch.setattr(local_slurm, "GRES_CONFIG", tmp_path / "gres.conf")
    monkeypatch.setattr(local_slurm, "LOCK", tmp_path / "lock")
    return tmp_path


def starting_fails(message: str) -> None:
    with pytest.raises(local_slurm.SlurmError, match=message), local_slurm.local_slurm():
        pass


def test_another_slurms_configuration_is_left_alone(machine):
    (machine / "slurm.conf").write_text("ClusterName=real\n")
    starting_fails("another Slurm's configuration")
    assert (machine / "slurm.conf").read_text() == "ClusterName=real\n"


def test_it_needs_root(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    starting_fails("needs root")


def test_missing_programs_are_named_with_the_packages(machine, monkeypatch):
    monkeypatch.setattr(local_slurm, "PROGRAMS", ("sh", "no-such-daemon"))
    starting_fails("no no-such-daemon here: apt-get install .*slurmctld")


def test_two_at_once_do_not_collide(machine):
    with local_slurm.LOCK.open("w") as lock:
        local_slurm.fcntl.flock(lock, local_slurm.fcntl.LOCK_EX)
        starting_fails("another local Slurm runs")


def test_a_process_that_took_over_a_dead_daemons_number_lives_on(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "slurmd-n1.pid").write_text(f"{process.pid}\n")
        local_slurm._stop_daemon(tmp_path / "slurmd-n1.pid")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
