# SPDX-License-Identifier: Apache-2.0
"""Copies of the repository in which a user's session can be replayed, and one finished run to look at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
CODE = ("Snakefile", "config", "dcae", "evaluation", "workflow", "profiles", "slurm")
TINY = "config/tiny.yaml"
LIMIT_SECONDS = 900  # a command that takes longer hangs


@dataclass(frozen=True)
class Clone:
    """A copy of the repository's code whose own modules are the ones that its jobs import."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a user's shell with the clone's modules before the installed ones."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
        """A command in the clone, with its output as text."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if check and result.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
            )
        return result

    def snakemake(self, *arguments: str, file: str = TINY, **kwargs) -> subprocess.CompletedProcess:
        """Snakemake on the tiny benchmark."""
        return self.run("snakemake", "--cores", "2", *arguments, "--configfile", file, **kwargs)

    def stale_rules(self, *arguments: str) -> dict[str, int]:
        """Return what a dry run would do: rule to number of jobs, without those that follow from other jobs."""
        jobs: dict[str, int] = {}
        rule = None
        for line in self.snakemake("--dry-run", *arguments, "--quiet", "progress").stdout.splitlines():
            words = line.split()
            if line.startswith(("rule ", "localrule ")):
                rule = words[1].rstrip(":")
            elif words[:1] == ["reason:"] and rule:
                reasons = line.split("reason: ")[1].split("; ")
                if any(not reason.startswith("Input files updated by another job") for reason in reasons):
                    jobs[rule] = jobs.get(rule, 0) + 1
                rule = None
        return jobs

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the clone."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))


def copy_repository(folder: Path) -> Clone:
    """A fresh clone with the tiny benchmark's entries beside the repository's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    shutil.copytree(Path(__file__).parent / "config", folder / "config", dirs_exist_ok=True)
    for rules in folder.glob("workflow/rules/*.smk"):
        # Snakemake prints a rule's message in the place of its name and resources, which tests read.
        rules.write_text(re.sub(r"    message:\n        .*\n", "", rules.read_text()))
    return Clone(folder)


@pytest.fixture
def clone(tmp_path) -> Clone:
    """A fresh clone in which nothing has run."""
    return copy_repository(tmp_path / "fresh")


@pytest.fixture(scope="session")
def _finished(tmp_path_factory, worker_id) -> Clone:
    """The finished run, made once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished-clone"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            clone = copy_repository(tmp_path_factory.mktemp("finished") / "clone")
            clone.snakemake()
            clone.folder.rename(folder)
    return Clone(folder)


@pytest.fixture
def finished(_finished, tmp_path) -> Clone:
    """A clone of its own in which the tiny benchmark has run."""
    folder = tmp_path / "finished"
    shutil.copytree(_finished.folder, folder, symlinks=True)
    return Clone(folder)


def tables_of(clone: Clone) -> dict[str, bytes]:
    """Content of every table."""
    folder = clone.folder / "results" / "tiny" / "tables"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
