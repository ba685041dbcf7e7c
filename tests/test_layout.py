# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: which package may import which, what starts fast, and what no file may contain."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dcae", "evaluation", "workflow")
MAY_IMPORT = {"dcae": {"dcae"}, "evaluation": {"dcae", "evaluation"}, "workflow": set(PACKAGES)}
HEAVY = {"torch", "numpy", "pandas", "diffusers", "timm", "snakemake", "matplotlib"}  # slow to import
MADE_HERE = {"results", "weights", "data", ".git", ".venv", ".snakemake"}  # top-level folders, as in .gitignore
CACHES = {"__pycache__", ".pytest_cache", ".hypothesis", ".ruff_cache", ".snakemake"}


def project_files() -> list[Path]:
    """Every file of the repository but those that programs made."""
    tops = [path for path in ROOT.iterdir() if path.name not in MADE_HERE and not path.name.endswith(".egg-info")]
    files = [path for top in tops for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file()]
    return sorted(path for path in files if not set(path.relative_to(ROOT).parts) & CACHES)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_point_one_way(package):
    assert sources(package), f"no sources under {package}"
    wrong = {
        str(path.relative_to(ROOT)): sorted(imported_packages(path) & set(PACKAGES) - MAY_IMPORT[package])
        for path in sources(package)
        if imported_packages(path) & set(PACKAGES) - MAY_IMPORT[package]
    }
    assert wrong == {}


def test_files_are_text_in_utf_8_whatever_the_locale():
    """In another locale, a digest of a text that was read without its encoding would make everything stale."""
    calls = re.compile(
        r"\.(?:read_text|write_text)\((?!.*encoding=)|\.open\((?!.*(?:encoding=|\"[rwax]?b))(?=\"|newline|\))"
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in sources(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if calls.search(line) and "tarfile.open" not in line
    ]
    assert wrong == []


def test_only_the_benchmark_package_and_the_workflow_know_yaml_and_the_command_line():
    outside = [path for path in sources("dcae") + sources("evaluation") if path.parent.name != "benchmark"]
    wrong = [str(path.relative_to(ROOT)) for path in outside if imported_packages(path) & {"typer", "snakemake"}]
    assert wrong == []


FACES = {"evaluation": "evaluation", "dcae.autoencoders": "dcae/autoencoders"}
"""Packages that offer names to scripts of users, and their folders."""


def test_the_project_imports_from_the_defining_module():
    """Names that a package offers are for users' scripts: inside the project an import names the file to open."""
    through = {
        f"{path.relative_to(ROOT)}: from {node.module} import {', '.join(alias.name for alias in node.names)}"
        for package in (*PACKAGES, "bench")
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in FACES
        if not all((ROOT / FACES[node.module] / f"{alias.name}.py").is_file() for alias in node.names)
    }
    assert through == set()


@pytest.mark.parametrize("face", FACES)
def test_every_name_that_a_package_offers_is_there(face):
    package = importlib.import_module(face)
    assert all(callable(getattr(package, name)) for name in package.__all__)


def test_modules_form_no_circles():
    """A circle of imports means two modules with one subject; those for type checkers alone count as well."""
    imports = {}
    for package in PACKAGES:
        for path in sources(package):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                    inner = {f"{node.module}.{alias.name}" for alias in node.names}
                    found |= {each if module_file(each) else node.module for each in inner}
            imports[name] = found - {name}
    circles = [" -> ".join(circle) for circle in find_circles(imports)]
    assert circles == []


def module_file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def find_circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return a circle through every module that can be reached from itself, each set of modules once."""
    found = {}
    for start in imports:
        waiting, before = [start], {start: ""}
        while waiting:
            module = waiting.pop()
            for other in imports.get(module, ()):
                if other == start:
                    circle = [module]
                    while before[circle[-1]]:
                        circle.append(before[circle[-1]])
                    found.setdefault(frozenset(circle), circle[::-1])
                elif other not in before:
                    before[other] = module
                    waiting.append(other)
    return list(found.values())


def test_reading_a_benchmark_imports_no_torch():
    """The Snakefile does just this in every job."""
    program = (
        "import json, sys; import dcae.benchmark, workflow.jobs; dcae.benchmark.Benchmark; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(json.loads(found)) == set()


def test_the_command_line_opens_without_torch():
    """``dcae --help`` and the report of a wrong argument take a tenth of torch's import."""
    program = "import json, sys, workflow.cli; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(json.loads(found)) == set()


def test_every_source_begins_with_the_licence_line():
    line = "# SPDX-License-Identifier: Apache-2.0\n"
    endings = {".py", ".smk", ".toml"}
    named = {"Snakefile", "Makefile", "environment.yml", "profile.yaml"}
    files = [path for path in project_files() if path.suffix in endings or path.name in named]
    assert len(files) > 20
    without = [str(path.relative_to(ROOT)) for path in files if not path.read_text().startswith(line)]
    assert without == []


def test_no_file_names_a_package_index_or_a_folder_of_one_machine():
    # Put together here, so that this file does not contain what it looks for.
    foreign = ["/" + "work/", "/" + "root/", "py" + "pi.org", "python" + "hosted.org", "index-" + "url ="]
    texts = {path: path.read_text(errors="ignore") for path in project_files() if path.suffix not in {".png", ".pdf"}}
    found = {
        str(path.relative_to(ROOT)): [word for word in foreign if word in text]
        for path, text in texts.items()
        if any(word in text for word in foreign)
    }
    assert found == {}


def test_the_map_names_only_files_that_exist():
    """In docs/architecture.md a path counts from the repository, and a name alone from any folder."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/.-]+\.(?:py|yaml|csv|json|md))`", text))
    known = {f"/{path.relative_to(ROOT)}" for path in project_files()}
    assert len(named) > 20
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in known)} == set()


def test_documents_link_only_to_files_that_exist():
    missing = []
    for document in (path for path in project_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                missing.append(f"{document.relative_to(ROOT)} -> {target}")
    assert missing == []
