# SPDX-License-Identifier: Apache-2.0
"""A mistake in a user's code, a missing file, or a wrong field ends the run before any job, all of them listed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, ConfigError
from tests.workflow.conftest import TINY, Clone
from workflow import preflight

CODE = """
import torch

class Mine(torch.nn.Module):
    def __init__(self, checkpoint=None):
        super().__init__()
        if checkpoint:
            open(checkpoint)

    def encode(self, images):
        return torch.nn.functional.pixel_unshuffle(images, 16)

    def decode(self, latents):
        return torch.nn.functional.pixel_shuffle(latents, 16)

class Sizes(Mine):
    def encode(self, images):
        if images.shape[-1] == 96:
            raise ValueError("never tried at 96 px")
        return super().encode(images)
"""
ENTRY = {"kind": "python", "factory": "mine:Mine", "spatial_compression": 16, "latent_channels": 768}
FAULTS = {
    "no-package": ({"factory": "not_installed.models:build"}, "No module named 'not_installed'"),
    "no-checkpoint": ({"arguments": {"checkpoint": "gone.safetensors"}, "latent_scale": 0.5}, "gone.safetensors"),
    "no-scale": ({}, "latent_scale is missing, which .* give the number, or latent_scale: measured"),
    "sizes": ({"factory": "mine:Sizes", "latent_scale": "measured"}, "on an image of 96 px: ValueError: never tried"),
    "channels": ({"latent_channels": 32, "latent_scale": 1.0}, r"encode returns \(1, 768, 4, 4\)"),
}
GOOD = {"good": {"latent_scale": "measured"}}


@pytest.fixture
def project(clone):
    """A copy of the repository with the tiny benchmark, and a user's code beside it."""
    (clone.folder / "mine.py").write_text(CODE)
    for name, changes in {**{name: each for name, (each, _) in FAULTS.items()}, **GOOD}.items():
        (clone.folder / f"config/autoencoders/{name}.yaml").write_text(yaml.safe_dump(ENTRY | changes))
    return clone


def write(project, *names: str, **changes) -> None:
    path = project.folder / TINY
    content = yaml.safe_load(path.read_text()) | changes
    content["autoencoders"] += names
    path.write_text(yaml.safe_dump(content))


def test_every_fault_of_users_code_is_listed_before_any_job(project):
    write(project, *FAULTS, *GOOD, reconstruction={
        "protocol": "random-features-tiny", "datasets": {"scenes-tiny": {64: None, 96: None}, "ffhq": {64: None}},
    })  # fmt: skip
    for arguments in (["--dry-run"], []):
        ended = project.snakemake(*arguments, check=False)
        assert ended.returncode == 1
        output = ended.stdout + ended.stderr  # Snakemake tells of errors on stdout in dry runs
        assert "6 faults, so nothing was started:" in output
        lines = output.splitlines()
        for name, (_, message) in FAULTS.items():
            [line] = [line for line in lines if f"config/autoencoders/{name}.yaml: " in line]
            assert re.search(message, line), line
        assert any("data of ffhq: data/ffhq" in line for line in lines), "what else is missing stands with them"
        assert "good.yaml" not in output
    assert not (project.folder / "results").exists()


def test_missing_data_and_weights_end_a_run_and_not_its_plan(project):
    write(project, reconstruction={
        "protocol": "dc-ae", "datasets": {"scenes-tiny": {64: None}, "ffhq": {64: None}},
    })  # fmt: skip
    assert project.snakemake("--dry-run").returncode == 0
    ended = project.snakemake(check=False)
    assert ended.returncode == 1
    assert "data of ffhq: data/ffhq" in ended.stderr and "weights of inception-2015-12-05" in ended.stderr
    assert not list((project.folder / "results").rglob("*.safetensors"))


def test_a_benchmark_without_code_of_users_tries_nothing(monkeypatch):
    monkeypatch.setattr(preflight.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    for name in ("demo", "miniature", "paper"):
        assert preflight.code_faults(Benchmark.load(f"config/{name}.yaml")) == []


def test_a_local_folder_of_released_weights_that_is_missing_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    entry = {"kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 8, "latent_channels": 4}
    shutil.copytree(Path(__file__).parent / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    for name, place in {"local": "checkpoints/my-kl", "of-the-hub": "somebody/kl"}.items():
        path = Path(f"config/autoencoders/{name}.yaml")
        path.write_text(yaml.safe_dump(entry | {"pretrained": {"id": place}, "latent_scale": 0.5}))
    write(Clone(tmp_path), "local", "of-the-hub")
    [fault] = preflight.missing_inputs(Benchmark.load(TINY))
    assert fault.startswith("released of local: checkpoints/my-kl")


def test_a_table_that_the_paper_does_not_have_is_refused(project):
    project.edit(TINY, "tables: [1, 3]", "tables: [1, 6]")
    with pytest.raises(ConfigError, match=r"tiny.yaml:\n  generation.0.tables.1: Input should be 1, 3, 4 or 5, got 6"):
        Benchmark.load(project.folder / TINY)
