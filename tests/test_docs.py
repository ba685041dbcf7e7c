# SPDX-License-Identifier: Apache-2.0
"""README, CONTRIBUTING and docs/: commands and entries exist, links lead somewhere, sentences are short.

``tests/workflow/test_documented_commands.py`` runs the commands and the Python.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dcae.benchmark import Benchmark, Config, read_entry
from dcae.benchmark.config import read_yaml
from workflow.planning.plan import plan
from workflow.planning.site import SITE_FILE, Site

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
MOST_WORDS = 30
# Commands of others, by their first words.
FOREIGN = ("source .venv/bin/activate", "tensorboard --logdir ", "hf download ", "hf upload ")
SLOWEST_BUILD = 120  # seconds; ten on a quiet machine


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block, without comments."""
        return [line for each in self.text.splitlines() if (line := re.sub(r"(^|\s)#.*", "", each).strip())]


FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.S | re.M)
BLOCKS = [Block(page.name, *found) for page in PAGES for found in FENCED.findall(page.read_text())]
COMMANDS = list(dict.fromkeys(line for block in BLOCKS if block.language == "sh" for line in block.lines))


def without_variables(line: str) -> list[str]:
    """Return the words of a command, without the variables before it."""
    words = shlex.split(line)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


# --- commands ---


def parse(words: list[str]) -> None:
    """Parse the arguments of ``dcae``; raises for one that does not exist."""
    from workflow.cli import app

    command = get_command(app)
    while inner := getattr(command, "commands", None):
        name, *words = words
        assert name in inner, f"dcae has no command {name}"
        command = inner[name]
    command.make_context("dcae", words)


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {word for word in words if "=" not in word} <= targets


def check_python(words: list[str]) -> None:
    assert words[0] == "-m" and importlib.util.find_spec(words[1]), words


def check_snakemake(words: list[str]) -> None:
    """The options that name files; the rest is tried by a dry run."""
    for option, pattern in {"--configfile": "{}", "--profile": "{}/profile.yaml"}.items():
        if option in words:
            assert (ROOT / pattern.format(words[words.index(option) + 1])).is_file(), words


def check_pytest(words: list[str]) -> None:
    assert words and all((ROOT / word).exists() for word in words)


CHECKS = {
    "dcae": parse,
    "make": check_make,
    "python": check_python,
    "snakemake": check_snakemake,
    "pytest": check_pytest,
    "torchrun": lambda words: parse(words[words.index("dcae") + 1 :]),
}


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith(FOREIGN)])
def test_each_command_is_one_that_exists(line):
    program, *arguments = without_variables(line)
    assert program in CHECKS, f"{line}: a command of this kind is not tested"
    CHECKS[program](arguments)


def test_wrong_commands_are_found():
    for words, message in (("plan demo --gpus h100", "No such option: --gpus"), ("plot demo", "no command plot")):
        with pytest.raises(Exception, match=message):
            parse(words.split())


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`dcae ([^`\n]+)`", TEXT))))
def test_a_command_within_a_sentence_names_what_exists(command):
    from workflow.cli import app

    found = get_command(app)
    words = command.split()
    while (inner := getattr(found, "commands", None)) and words and not words[0].startswith("-"):
        assert words[0] in inner
        found = inner[words.pop(0)]
    options = {option for each in found.params for option in each.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


# --- entries ---

HEAD = re.compile(r"# (\S+\.yaml)\n")
YAML = [(HEAD.match(block.text)[1], block.text) for block in BLOCKS if block.language == "yaml"]
AUTOENCODERS = {Path(place).stem: text for place, text in YAML if place.startswith("config/autoencoders/")}


@pytest.fixture
def config(tmp_path) -> Path:
    """A folder with every entry of the pages."""
    for place, text in YAML:
        if place.startswith("config/"):
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path / "config"


@pytest.mark.parametrize(("place", "text"), YAML, ids=[place for place, _ in YAML])
def test_each_entry_is_read(place, text, config):
    path = config.parent / (place if "/" in place else f"config/autoencoders/{place}")
    path.write_text(text)
    if path.parent == config:
        assert Benchmark.load(path).cells.reconstruction
    else:
        assert read_entry(path.parent.name, path).name == path.stem


def test_each_kind_of_autoencoder_has_an_example():
    kinds = {yaml.safe_load(text)["kind"] for text in AUTOENCODERS.values()}
    assert kinds == {"python", "dc-ae", "diffusers", "space-to-channel"}


def test_the_examples_join_the_demo(config):
    demo = read_yaml(ROOT / "config" / "demo.yaml")
    mine = {"extends": "demo", "description": "mine", "autoencoders": [*demo["autoencoders"], *AUTOENCODERS]}
    (config / "mine.yaml").write_text(yaml.safe_dump(mine))
    cells = Benchmark.load(config / "mine.yaml").cells.reconstruction
    assert {cell.autoencoder for cell in cells} >= set(AUTOENCODERS)


def test_every_protocol_is_explained():
    """In docs/protocols.md, which says nothing of others."""
    text = (ROOT / "docs" / "protocols.md").read_text()
    missing = [name for name in Config().files("protocols") if f"`{name}`" not in text]
    assert missing == []


def test_costs_are_those_of_the_plan():
    text = (ROOT / "docs" / "reproduce-the-paper.md").read_text()
    printed = {
        name: (jobs, hours) for name, jobs, hours in re.findall(r"^\| (.*) \| (\d+) \| ([\d,]+) \|$", text, re.M)
    }
    found = {}
    for name in ("paper", "ablations", "released-diffusion", "pretrained"):
        content = plan(Benchmark.load(ROOT / f"config/{name}.yaml"), Site.read(ROOT / SITE_FILE)).content()
        tables = content["tables"].items() if name == "paper" else ()
        for row, totals in [
            *((table.capitalize(), each) for table, each in tables),
            (f"`{name}`, all", content["total"]),
        ]:
            found[row] = (str(totals["jobs"]), f"{totals['gpu_hours']:,.0f}")
    assert printed == {row: totals for row, totals in found.items() if totals[0] != "0"}


# --- text ---


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings and comments; a word of code is one word."""
    text = re.sub(r"<!--.*?-->|^```.*?^```", "", text, flags=re.S | re.M)
    text = re.sub(r"^(\||#|--8<--|:::|    options:).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text.replace("``", "`"))
    text = re.sub(r"`[^`]*`", "code", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    return [
        each for paragraph in paragraphs for each in re.split(r"(?<=[.!?])[\s*)]+(?=\S)", paragraph) if each.strip()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short(page):
    long = [" ".join(each.split()) for each in sentences(page.read_text()) if len(each.split()) > MOST_WORDS]
    assert long == [], f"over {MOST_WORDS} words"


def test_sentences_are_split_at_their_ends():
    assert sentences("# No\n\nOne `a b`, two. Three?\n\n| no |\n\n- four\n- **Five.** six") == [
        "One code, two.", "Three?", "- four", "- **Five.", "six",
    ]  # fmt: skip


# --- links and the site ---


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub, and the site, give a page's headings."""
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


def test_each_page_is_in_the_navigation_and_the_readme_is_short():
    navigation = re.search(r"^nav:\n(.*?)^\S", (ROOT / "mkdocs.yml").read_text(), re.S | re.M)[1]
    pages = {page.name for page in PAGES if page.parent == ROOT / "docs"}
    assert set(re.findall(r"([\w-]+\.md)", navigation)) == pages
    readme = PAGES[0].read_text()
    assert len([line for line in readme.splitlines() if not line.startswith("|")]) <= 110
    assert [name for name in sorted(pages - {"index.md", "api.md"}) if f"(docs/{name})" not in readme] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as ``make docs`` builds it: every link and every documented name is checked."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SLOWEST_BUILD)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    loaded = re.compile(
        r"""<(?!a\s)[^>]*\s(?:src|href|srcset)=["']?(?:https?:)?//[^>]*>|@import[^;]*|url\(["']?(?:https?:)?//[^)]*"""
    )
    for page in [*pages, *site.rglob("*.css")]:
        assert [found for found in loaded.findall(page.read_text()) if "w3.org" not in found] == [], page.name


def test_the_site_has_the_parts_of_the_readme_and_the_signatures(site):
    assert "No number of the paper" in (site / "index.html").read_text()
    api = (site / "api.html").read_text()
    names = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert len(names) > 20 and [name for name in names if f'id="{name}"' not in api] == []
