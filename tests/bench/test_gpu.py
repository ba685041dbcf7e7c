# SPDX-License-Identifier: Apache-2.0
"""The one command for a GPU: its steps in their order, once each, within its time."""

import time
from pathlib import Path

import pytest

from bench.gpu import OF_DC_AE, STEPS, Rows, measure, run
from dcae.benchmark import Config
from dcae.training.stopping import EXIT_UNFINISHED
from evaluation.efficiency.suite import suite_rows
from evaluation.published import read_published

ONE = Rows("paper", "paper", "one")
TWO = Rows("autoencoders", "autoencoders", "two")


class Commands:
    """Runs nothing; writes down the commands, and ends each with a given status."""

    def __init__(self, *statuses: int):
        self.given, self.statuses = [], list(statuses)

    def __call__(self, command, output, seconds):
        self.given.append(command)
        if output is not None:
            output.write_text("faster")
        return self.statuses.pop(0)


def test_steps_come_in_their_order_and_the_comparison_once(tmp_path):
    commands = Commands(0, 0, 0)
    assert measure(tmp_path / "h100", "cuda", None, (ONE, OF_DC_AE, TWO), commands) == 0
    assert [command[0] for command in commands.given] == ["workflow.cli", "bench.dc_ae", "workflow.cli"]
    assert commands.given[0][-2:] == ["--output", str(tmp_path / "h100")]
    assert commands.given[1][1:] == ["--device", "cuda"]
    again = Commands(0, 0)
    assert measure(tmp_path / "h100", "cuda", None, (ONE, OF_DC_AE, TWO), again) == 0
    assert [command[0] for command in again.given] == ["workflow.cli", "workflow.cli"]


def test_a_step_that_fails_does_not_keep_the_others_and_the_time_limit_ends_all(tmp_path):
    assert measure(tmp_path, "cuda", None, (ONE, TWO), Commands(1, 0)) == 1
    stopped = Commands(EXIT_UNFINISHED)
    assert measure(tmp_path, "cuda", 9, (ONE, TWO), stopped) == EXIT_UNFINISHED
    assert stopped.given[0][-2] == "--time-limit"
    assert float(stopped.given[0][-1]) == pytest.approx(9, abs=0.1)
    no_time = Commands()
    assert measure(tmp_path, "cuda", 1, (OF_DC_AE,), no_time) == EXIT_UNFINISHED  # it would be lost half-way


def test_a_missed_target_fails_each_time(tmp_path):
    (tmp_path / OF_DC_AE).write_text("1.05 (at least 1.3)   MISSED")
    assert measure(tmp_path, "cuda", None, (OF_DC_AE,), Commands()) == 1


def test_what_a_command_prints_is_kept_and_one_that_takes_too_long_is_killed(tmp_path):
    assert run(["this"], tmp_path / "zen.txt", 60) == 0
    assert "Beautiful is better than ugly" in (tmp_path / "zen.txt").read_text()
    assert run(["http.server", "0"], tmp_path / "never.txt", 0.5) == EXIT_UNFINISHED
    assert not (tmp_path / "never.txt").exists()


def test_what_a_command_started_ends_with_it(tmp_path, monkeypatch):
    """The workers of a benchmark would go on, and hold the GPU."""
    script = tmp_path / "starts_another.py"
    script.write_text(
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(["starts_another"], tmp_path / "never.txt", 3) == EXIT_UNFINISHED
    child = Path("/proc") / (tmp_path / "child").read_text()
    for _ in range(100):
        if not child.exists() or "Z" in (child / "stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    raise AssertionError("the child still runs")


def test_the_steps_are_rows_that_there_are_and_cover_every_row_of_the_paper():
    config, published = Config(), read_published()
    found = {}
    for step in STEPS:
        if isinstance(step, Rows):
            protocol = config.entry("protocols", step.protocol)
            rows = suite_rows(config.entry("suites", step.suite), protocol, config, published, step.pattern)
            found.setdefault(step.protocol, set()).update(row.name for row in rows)
    assert len(found["paper"]) == 19
    assert found["modern"] == {f"table3-512px-{model}-p1-dc-ae-f32c32" for model in ("dit-xl", "uvit-h")}
    assert any(name.startswith("phases") for name in found["autoencoders"])
    assert OF_DC_AE in STEPS
