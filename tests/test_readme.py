# SPDX-License-Identifier: Apache-2.0
"""README and docs/: what they tell a reader to write and to type works, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dcae.benchmark import Benchmark

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
ENTRIES = dict(re.findall(r"```yaml\n# config/autoencoders/([\w-]+)\.yaml\n(.*?)```", TEXT, re.S))


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
    lines = re.findall(r"^(?:\w+=\w+ )?make ([a-z ]+?)(?: +#.*)?$", TEXT, re.M)
    named = {target for line in lines for target in line.split()}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:^|`)dcae ([a-z]+)", TEXT, re.M))))
def test_dcae_commands_exist(command):
    from workflow.cli import app

    assert command in get_command(app).commands


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in heading_anchors(place), target


def test_each_page_is_in_the_readme_which_is_short():
    readme = PAGES[0].read_text()
    assert len(readme.splitlines()) <= 120
    assert all(f"(docs/{page.name})" in readme for page in PAGES if page.parent.name == "docs")
