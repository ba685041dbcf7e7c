# SPDX-License-Identifier: Apache-2.0
"""The one command for a GPU: its steps in their order, once each, within its time."""

import subprocess
import sys
import tarfile
import time
from pathlib import Path

from bench.gpu import AFTER_IT, HEADLINE, OF_DC_AE, AgainstDiffusers, Rows, archived, measure, rows_of, run
from dcae.training.stopping import EXIT_UNFINISHED

ONE = Rows("paper", "paper", "table3-512px-uvit-h-p1-dc-ae-f32c32", 60)
TWO = Rows("autoencoders", "autoencoders", "phases-*", 60)
COMPARISON = AgainstDiffusers(60)


class Commands:
    """Runs nothing; writes down the commands, and ends each with a given status after given seconds."""

    def __init__(self, *statuses: int, seconds: tuple[float, ...] = ()):
        self.given, self.statuses, self.seconds, self.now = [], list(statuses), list(seconds), 0.0

    def __call__(self, command, output, seconds):
        self.given.append(command)
        if output is not None:
            output.write_text("faster")
        self.now += self.seconds.pop(0) if self.seconds else 0
        return self.statuses.pop(0)

    def clock(self) -> float:
        return self.now


def test_steps_come_in_their_order_and_the_comparison_once(tmp_path):
    commands = Commands(0, 0, 0)
    assert measure(tmp_path / "h100", "cuda", None, (ONE, COMPARISON, TWO), commands) == 0
    assert [command[0] for command in commands.given] == ["workflow.cli", "bench.dc_ae", "workflow.cli"]
    assert commands.given[0][-2:] == ["--output", str(tmp_path / "h100")]
    assert commands.given[1][1:] == ["--device", "cuda"]
    again = Commands(0, 0)
    assert measure(tmp_path / "h100", "cuda", None, (ONE, COMPARISON, TWO), again) == 0
    assert [command[0] for command in again.given] == ["workflow.cli", "workflow.cli"]


def test_a_step_that_fails_or_does_not_end_does_not_keep_the_others(tmp_path):
    assert measure(tmp_path, "cuda", None, (ONE, TWO), Commands(1, 0)) == 1
    stopped = Commands(EXIT_UNFINISHED, 0)
    assert measure(tmp_path, "cuda", 9, (ONE, TWO), stopped, stopped.clock) == EXIT_UNFINISHED
    assert [command[-2:] for command in stopped.given] == [["--time-limit", "9.00"]] * 2


def test_a_step_that_does_not_fit_is_left_out_and_the_next_one_run(tmp_path, capsys):
    long = Rows("paper", "modern", "*", 300)
    commands = Commands(0, 0, seconds=(400, 0))
    assert measure(tmp_path, "cuda", 9, (ONE, long, TWO), commands, commands.clock) == EXIT_UNFINISHED
    assert [command[command.index("--rows") + 1] for command in commands.given] == [ONE.pattern, TWO.pattern]
    assert "paper by modern, *: left out, it takes about 300 s, and 140 s are left" in capsys.readouterr().out


def test_nine_minutes_hold_the_headline_and_four_more_go_on(tmp_path):
    """By the modelled seconds; fifteen minutes of a machine are at most nine and four of measuring."""
    seconds = [step.seconds for step in HEADLINE]
    assert sum(seconds) < 6.5 * 60
    commands = Commands(*[0] * 20, seconds=tuple(1.2 * each for each in seconds))
    assert measure(tmp_path, "cuda", 9, HEADLINE + AFTER_IT, commands, commands.clock) == EXIT_UNFINISHED
    assert (tmp_path / OF_DC_AE).is_file()
    patterns = [command[command.index("--rows") + 1] for command in commands.given if "--rows" in command]
    assert patterns[:3] == [step.pattern for step in HEADLINE if isinstance(step, Rows)]
    for name in (row for step in HEADLINE if isinstance(step, Rows) for row in rows_of(step)):
        for protocol in ("autoencoders", "paper", "headline"):
            path = tmp_path / "records" / protocol / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    more = Commands(*[0] * 20)
    measure(tmp_path, "cuda", 4, HEADLINE + AFTER_IT, more, more.clock)
    first = more.given[0]
    assert (first[first.index("--protocol") + 1], first[first.index("--rows") + 1]) == ("modern", ONE.pattern)


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive) as file:
        return sorted(file.getnames())


def test_the_archive_is_refreshed_while_steps_run(tmp_path):
    folder, archive = tmp_path / "h100", tmp_path / "h100.tar.gz"
    folder.mkdir()
    with archived(folder, archive, seconds=0.05):
        (folder / "first.json").write_text("1")
        for _ in range(200):
            if archive.exists() and "h100/first.json" in names_in(archive):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("no archive with the file")
        (folder / "last.json").write_text("2")
    assert names_in(archive) == ["h100/first.json", "h100/last.json"]


def test_a_missed_target_fails_each_time(tmp_path):
    (tmp_path / OF_DC_AE).write_text("1.05 (at least 1.3)   MISSED")
    assert measure(tmp_path, "cuda", None, (COMPARISON,), Commands()) == 1


def test_what_a_command_prints_is_kept_and_one_that_takes_too_long_is_killed(tmp_path, monkeypatch):
    assert run(["this"], tmp_path / "zen.txt", 60) == 0
    assert "Beautiful is better than ugly" in (tmp_path / "zen.txt").read_text()
    (tmp_path / "begins.py").write_text("import time; print('first'); time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(["begins"], tmp_path / "never.txt", 5) == EXIT_UNFINISHED
    assert not (tmp_path / "never.txt").exists()
    assert (tmp_path / "never.txt.part").read_text() == "first\n"  # what was printed until then


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
    found = {}
    for step in HEADLINE + AFTER_IT:
        if isinstance(step, Rows):
            found.setdefault(step.protocol, set()).update(rows_of(step))
    assert len(found["paper"]) == 19
    assert found["modern"] == {f"table3-512px-{model}-p1-dc-ae-f32c32" for model in ("dit-xl", "uvit-h")}
    assert found["headline"] == found["modern"]
    assert any(name.startswith("phases") for name in found["autoencoders"])
    ratios = next(step for step in HEADLINE if isinstance(step, Rows) and step.protocol == "paper")
    assert set(rows_of(ratios)) == {"table3-512px-uvit-h-p2-sd-vae-f8", "table3-512px-uvit-h-p1-dc-ae-f64c128"}


def test_the_rows_of_the_headline_need_no_diffusers():
    blocked = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from bench.gpu import HEADLINE, Rows, rows_of\n"
        "assert all(rows_of(step) for step in HEADLINE if isinstance(step, Rows))\n"
        "from dcae.autoencoders.loading import load; load('dc-ae-f64c128', device='meta')\n"
        "import workflow.commands.profile_suite, evaluation.figures.efficiency, evaluation.tables.efficiency\n"
    )
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=Path(__file__).parents[2])
