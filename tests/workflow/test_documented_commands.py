# SPDX-License-Identifier: Apache-2.0
"""The commands and the Python of README and docs/, run: on the results of the tiny benchmark, or as dry runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from dcae.data.photographs import folder as photographs
from tests.test_docs import BLOCKS, COMMANDS, YAML, without_variables
from tests.workflow.conftest import ROOT, copy_repository
from tests.workflow.test_commands import dcae
from workflow.jobs import Jobs

# Of the benchmark demo in the pages, and of the tiny one here.
TINY = {
    r"(?<![\w-])demo(?![\w-])": "tiny",
    "dc-ae-f32c64-mini": "dc-ae-tiny",
    "(large|demo)-scenes-[0-9]+": "scenes-tiny-64",
    "data check my-photos": "data check config/datasets/my-photos.yaml",  # here no folder of the repository
}
RUN = (  # a bundle first, which others open
    "bundle", "plan", "tables", "page", "figures", "claims", "diff", "export", "new", "compare", "data check",
    "data verify-cache",
)  # fmt: skip
NOT_RUN = {
    "run": "printed lines are checked below",
    "pin": "needs a network",
    "verify": "needs weights",
    "profile-suite": "takes minutes",
}
WORDS = [without_variables(line.replace(" --dry-run", "")) for line in COMMANDS]
SNAKEMAKE = list(dict.fromkeys(shlex.join(words) for words in WORDS if words[0] == "snakemake"))


def documented(program: str) -> list[str]:
    return [line for line in COMMANDS if line.startswith(f"dcae {program} ") or line == f"dcae {program}"]


def of_tiny(text: str) -> str:
    """Return a text of the pages with the names of the tiny benchmark."""
    for pattern, name in TINY.items():
        text = re.sub(pattern, name, text)
    return text


@pytest.fixture(scope="module")
def folder(_finished, tmp_path_factory) -> Path:
    """A user's folder: results, pictures, and the entries that the pages show."""
    made = tmp_path_factory.mktemp("user")
    for name in ("results", "slurm"):
        shutil.copytree(_finished.folder / name, made / name, symlinks=True)
    shutil.copytree(made / "results", made / "other" / "results", symlinks=True)
    shutil.copytree(Path(__file__).parent / "config", made / "config")
    for part in ("pictures", "data/my-photos/train", "data/my-photos/validation"):
        (made / part).mkdir(parents=True)
        for name in ("chelsea.png", "coffee.png"):
            picture = Image.open(photographs() / name).resize((256, 256))
            picture.putpixel((0, 0), (len(part), 0, 0))  # no image is in two splits
            picture.save(made / part / name)
    photos = dict(YAML)["config/datasets/my-photos.yaml"]
    (made / "config/datasets/my-photos.yaml").write_text(re.sub(r"\d+", "2", photos))
    shutil.copy(ROOT / "config/autoencoders/blur.yaml", made / "my-autoencoder.yaml")
    return made


def test_each_command_is_run_or_has_a_reason():
    known = {line for program in (*RUN, *NOT_RUN) for line in documented(program)}
    assert [line for line in COMMANDS if line.startswith("dcae ") and line not in known] == []
    assert all(map(documented, (*RUN, *NOT_RUN)))


@pytest.mark.parametrize("line", [line for program in RUN for line in documented(program)])
def test_commands_work(line, folder, tmp_path, monkeypatch, capsys):
    places = {"plan": ROOT, "new": tmp_path}  # the others: of the tiny benchmark
    place = places.get(line.split()[1])
    monkeypatch.chdir(place or folder)
    arguments = shlex.split(line if place else of_tiny(line))[1:]
    status = dcae(monkeypatch, *arguments)
    assert status == 0, capsys.readouterr().err
    assert capsys.readouterr().out


@pytest.mark.parametrize("line", documented("run"))
def test_dcae_run_starts_snakemake_with_files_and_targets_that_exist(line, tmp_path, monkeypatch):
    """In a folder without results; entries of the tutorial are there."""
    for name in ("config", "slurm", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my-autoencoder.yaml").write_text(dict(YAML)["my-autoencoder.yaml"])
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr("workflow.preflight.check_inputs", lambda benchmark: None)  # data are not here
    ended = subprocess.CompletedProcess([], 0)
    stand_in = SimpleNamespace(run=lambda command, **_: started.append(command) or ended)
    monkeypatch.setattr("workflow.commands.run.subprocess", stand_in)
    assert dcae(monkeypatch, *shlex.split(line)[1:]) == 0
    words = started[0][started[0].index("snakemake") + 1 :]
    assert (tmp_path / words[-1]).is_file()
    targets = words[: words.index("--cores")]
    assert set(targets) <= set(Jobs(words[-1]).parts)
    assert "--profile" not in words or (tmp_path / words[words.index("--profile") + 1] / "profile.yaml").is_file()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_repository(tmp_path_factory.mktemp("documented") / "clone")


@pytest.mark.parametrize("line", SNAKEMAKE)
def test_snakemake_plans(line, clone):
    done = clone.run(*shlex.split(line), "--dry-run", "--quiet", "rules")
    assert "dry-run" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python"], ids=lambda block: block.page
)
def test_python_runs(block, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(compile(of_tiny(block.text), block.page, "exec"), {})
    assert "import" in block.text
