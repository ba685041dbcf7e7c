# SPDX-License-Identifier: Apache-2.0
"""pyproject.toml, requirements.lock and environment.yml describe one environment, and the running one is it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = [Requirement(line.rstrip(" \\")) for line in LOCK.splitlines() if line and not line.startswith(" ")]
DIRECT = [
    Requirement(text)
    for text in (*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["dev"])
]
PYTHONS = ("3.11", "3.12")


def locked_versions(python: str) -> dict[str, str]:
    """Package to version that the lock gives to a Python version on 64-bit Linux."""
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    applying = [each for each in LOCKED if each.marker is None or each.marker.evaluate(machine)]
    return {canonicalize_name(each.name): next(iter(each.specifier)).version for each in applying}


def test_lock_parses_as_many_packages_as_it_has_pins():
    assert len(LOCKED) == LOCK.count("==") - LOCK.count("== '") > 100


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_locked_within_its_bounds(requirement, python):
    version = locked_versions(python).get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements.lock: make lock"
    assert requirement.specifier.contains(version), f"requirements.lock has {version}, pyproject.toml: {requirement}"


def test_every_direct_dependency_has_a_lower_bound():
    without = [str(each) for each in DIRECT if not any(part.operator == ">=" for part in each.specifier)]
    assert without == []


def test_every_package_that_is_imported_is_a_direct_dependency():
    own = ("bench", "dcae", "evaluation", "tests", "workflow")
    imported: dict[str, Path] = {}
    for path in (path for package in own for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported[node.module.split(".")[0]] = path
    packages = importlib.metadata.packages_distributions()
    direct = {canonicalize_name(requirement.name) for requirement in DIRECT}
    wrong = {
        name: str(path.relative_to(ROOT))
        for name, path in imported.items()
        if name not in sys.stdlib_module_names and name not in own
        if not direct & set(map(canonicalize_name, packages.get(name, [])))
    }
    assert wrong == {}


def test_both_pythons_get_the_same_versions():
    older, newer = (locked_versions(python) for python in PYTHONS)
    assert older == newer


def test_lock_pins_torch_and_torchvision_as_pyproject_says():
    versions = locked_versions("3.11")
    for constraint in map(Requirement, PYPROJECT["tool"]["uv"]["constraint-dependencies"]):
        assert constraint.specifier.contains(versions[constraint.name])


def test_every_locked_package_has_a_sha256():
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    without = [block.splitlines()[0] for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)]
    assert without == []


def test_lock_names_no_host():
    assert re.findall(r".*(?:://|--(?:extra-)?index|--find-links| @ ).*", LOCK) == []


def test_environment_yml_takes_all_but_python_and_pip_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["--requirement requirements.lock"]}
    names = [re.match(r"[a-z]+", each).group() for each in conda]
    assert names == ["python", "pip"]


def test_environment_yml_and_pyproject_allow_the_same_pythons():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = SpecifierSet(environment["dependencies"][0].removeprefix("python "))
    allowed = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert conda == allowed
    candidates = [f"3.{minor}" for minor in range(8, 16)]
    assert tuple(allowed.filter(candidates)) == PYTHONS


def test_the_running_environment_is_within_the_bounds():
    versions = {requirement.name: importlib.metadata.version(requirement.name) for requirement in DIRECT}
    wrong = [str(each) for each in DIRECT if not each.specifier.contains(versions[each.name])]
    assert wrong == [], f"make setup; found {versions}"


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == importlib.metadata.version("dcae")
    assert citation["license"] == PYPROJECT["project"]["license"]


def test_a_wheel_is_refused_with_the_way_to_install_and_an_editable_install_is_made(tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("pyproject.toml", "build_backend.py", "README.md", "LICENSE", "dcae/__init__.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)

    def pip(*arguments: str) -> subprocess.CompletedProcess:
        offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", *arguments, *offline]
        return subprocess.run(command, capture_output=True, text=True, cwd=checkout, timeout=300)

    for refused in (pip("wheel", "."), pip("install", "--target", str(tmp_path / "no"), ".")):
        assert refused.returncode != 0
        assert "clone it, then make setup there, or pip install --editable ." in refused.stderr
    done = pip("install", "--target", str(tmp_path / "site"), "--editable", ".")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "bin" / "dcae").is_file() and list((tmp_path / "site").glob("__editable__*dcae*"))
