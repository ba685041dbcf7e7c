# SPDX-License-Identifier: Apache-2.0
"""What the README tells a reader to write and to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dcae.benchmark import Benchmark

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
ENTRIES = dict(re.findall(r"```yaml\n# config/autoencoders/([\w-]+)\.yaml\n(.*?)```", README, re.S))


def test_each_kind_of_autoencoder_has_an_example():
    kinds = {yaml.safe_load(text)["kind"] for text in ENTRIES.values()}
    assert kinds == {"python", "dc-ae", "diffusers", "space-to-channel"}


def test_the_examples_join_the_demo(tmp_path):
    (tmp_path / "autoencoders").mkdir()
    for name, text in ENTRIES.items():
        (tmp_path / "autoencoders" / f"{name}.yaml").write_text(text)
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    demo["autoencoders"] += list(ENTRIES)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(demo))
    cells = Benchmark.load(tmp_path / "mine.yaml").cells.reconstruction
    assert {cell.autoencoder for cell in cells} >= set(ENTRIES)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    lines = re.findall(
        r"^(?:\w+=\w+ )?make ([a-z ]+?)(?: +#.*)?$", README + (ROOT / "CONTRIBUTING.md").read_text(), re.M
    )
    named = {target for line in lines for target in line.split()}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:^|`)dcae ([a-z]+)", README, re.M))))
def test_dcae_commands_exist(command):
    from workflow.cli import app

    assert command in get_command(app).commands
