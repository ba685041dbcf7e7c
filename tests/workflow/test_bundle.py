# SPDX-License-Identifier: Apache-2.0
"""``dcae bundle``: a valid RO-Crate, the same for the same results, opened by other commands only as it was made."""

from __future__ import annotations

import importlib.resources
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import yaml
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils.http import HttpRequester

from dcae.benchmark import Benchmark
from dcae.benchmark.config import REPOSITORY_CONFIG
from dcae.files import sha256
from tests.evaluation import synthetic
from tests.workflow.test_commands import dcae
from workflow import layout
from workflow.bundle import opening
from workflow.bundle.contents import contents
from workflow.bundle.opening import BundleError, opened
from workflow.bundle.writing import write_bundle

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
RECORD = "results/demo/records/reconstruction/scenes-64/blur.json"
PATTERNS = {
    "reconstruction": layout.RECONSTRUCTION_RECORD,
    "generation": layout.GENERATION_RECORD,
    "efficiency": layout.EFFICIENCY_RECORD,
}


class Made(NamedTuple):
    results: Path
    bundle: Path
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """Synthetic records of the demo with its tables, and their bundle as a zip file and as a folder."""
    base = tmp_path_factory.mktemp("bundles")
    results = base / "results"
    for each in synthetic.demo_records():
        each.record.write(layout.file("demo", PATTERNS[each.kind], results, **each.record.cell))
    with pytest.MonkeyPatch.context() as patch:
        assert dcae(patch, "tables", "config/demo.yaml", "--results", str(results)) == 0
    (results / "demo" / "logs").mkdir()
    (results / "demo" / "logs" / "tables.log").write_text("")
    for name in ("single/model.safetensors", "single.state/1/training_log.jsonl", "single/.training_log.jsonl.host.1"):
        (results / "demo/diffusion" / name).parent.mkdir(parents=True, exist_ok=True)
        (results / "demo/diffusion" / name).write_text("")
    benchmark = Benchmark.load("config/demo.yaml")
    for output in ("demo.zip", "demo"):
        write_bundle(benchmark, results, base / output)
    return Made(results, base / "demo.zip", base / "demo")


@pytest.fixture
def offline(monkeypatch):
    """The context of RO-Crate in place of the network: that of 1.3, which rocrate brings, with the terms of 1.1."""
    context = json.loads((importlib.resources.files("rocrate") / "data" / "ro-crate.jsonld").read_text())
    del context["@context"]["sha256"]
    context["@context"]["ComputationalWorkflow"] = "https://bioschemas.org/ComputationalWorkflow"

    def get(_, url, **__):
        assert url == CONTEXT
        headers = {"Content-Type": "application/ld+json"}
        return SimpleNamespace(status_code=200, headers=headers, json=lambda: context, text=json.dumps(context))

    monkeypatch.setattr(HttpRequester, "get", get, raising=False)


def issues(bundle: Path, cache: Path) -> list[str]:
    """What the validator finds that the profile of workflow runs, and those that it extends, require."""
    settings = ValidationSettings(
        rocrate_uri=str(bundle),
        profile_identifier="workflow-run-crate",
        requirement_severity=Severity.REQUIRED,
        cache_path=cache,
    )
    return [f"{each.check.identifier}: {each.message}" for each in services.validate(settings).get_issues()]


def test_a_bundle_is_a_valid_workflow_run_crate(made, offline, tmp_path):
    assert issues(made.bundle, tmp_path / "cache") == []
    graph = json.loads((made.folder / METADATA).read_text())["@graph"]
    tool = next(each for each in graph if each["@id"] == "#software-1")
    tool["@type"] = "Thing"
    broken = shutil.copytree(made.folder, tmp_path / "broken")
    content = {"@context": json.loads((broken / METADATA).read_text())["@context"], "@graph": graph}
    (broken / METADATA).write_text(json.dumps(content))
    assert any("instrument" in each for each in issues(broken, tmp_path / "cache")), "the validator looks"


def test_each_record_has_its_action_and_each_file_its_digest(made):
    graph = {each["@id"]: each for each in json.loads((made.folder / METADATA).read_text())["@graph"]}
    records = list((made.folder / "results/demo/records").rglob("*.json"))
    actions = [each for each in graph.values() if each["@type"] == "CreateAction"]
    assert len(actions) == len(records) + 1
    action = next(each for each in actions if each["@id"] == f"#{RECORD.split('records/')[1][:-5]}")
    record = json.loads((made.folder / RECORD).read_text())
    assert action["result"] == {"@id": RECORD} and action["endTime"] == record["provenance"]["created"]
    assert {"@id": "config/autoencoders/blur.yaml"} in action["object"]
    assert graph[action["instrument"]["@id"]]["softwareVersion"] == record["provenance"]["version"]
    assert graph["Snakefile"]["version"] and graph["./"]["mainEntity"] == {"@id": "Snakefile"}
    files = {name: each for name, each in graph.items() if "File" in each["@type"]}
    there = {path.relative_to(made.folder).as_posix(): path for path in made.folder.rglob("*") if path.is_file()}
    assert set(files) == set(there) - {METADATA}
    for name, each in files.items():
        assert each["sha256"] == sha256(there[name]) and each["contentSize"] == str(there[name].stat().st_size)


def test_a_bundle_holds_results_and_what_decides_them_but_no_weights_or_checkpoints(made, tmp_path):
    names = zipfile.ZipFile(made.bundle).namelist()
    for name in (
        "config/demo.yaml", "config/miniature.yaml", "config/claims.yaml", "config/published/table2.csv",
        "config/recipes/demo-uvit.yaml", "requirements.lock", "Snakefile", "results/demo/tables/table2.csv",
        "results/demo/logs/tables.log",
    ):  # fmt: skip
        assert name in names
    assert not [name for name in names if "diffusion/single" in name]
    benchmark = Benchmark.load("config/demo.yaml")
    assert "results/demo/diffusion/single/model.safetensors" in contents(benchmark, made.results, weights=True)


def test_the_same_results_give_the_same_bytes(made, tmp_path):
    later = shutil.copytree(made.results, tmp_path / "results")
    os.utime(later / "demo/tables/table2.csv", (0, 0))
    write_bundle(Benchmark.load("config/demo.yaml"), later, tmp_path / "demo.zip")
    assert (tmp_path / "demo.zip").read_bytes() == made.bundle.read_bytes()


def test_a_benchmark_without_results_has_no_bundle(tmp_path, monkeypatch, capsys):
    assert dcae(monkeypatch, "bundle", "demo", "--results", str(tmp_path)) == 1
    assert capsys.readouterr().err.startswith(f"error: nothing has run: no records in {tmp_path / 'demo/records'}; ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(made, tmp_path):
    with pytest.raises(BundleError, match="exists; remove it"):
        write_bundle(Benchmark.load("config/demo.yaml"), made.results, tmp_path)


@pytest.mark.parametrize("path", sorted(REPOSITORY_CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configuration_in_a_bundle_is_whole(path, tmp_path):
    if not {"reconstruction", "extends"} & yaml.safe_load(path.read_text()).keys():
        pytest.skip("no benchmark")
    benchmark = Benchmark.load(path)
    (tmp_path / "results" / path.stem / "records").mkdir(parents=True)
    (tmp_path / "results" / path.stem / "records" / "one.json").write_text("")
    for name, file in contents(benchmark, tmp_path / "results").items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, tmp_path / "copy" / name)
    copied = opening.Bundle(tmp_path / "copy", path.stem).benchmark()
    assert copied.config.folders == [tmp_path / "copy" / "config"]
    assert copied.entries_used() == benchmark.entries_used() and copied.cells == benchmark.cells


# --- commands that open it ---


def test_a_bundle_and_the_folder_of_its_run_do_not_differ(made, monkeypatch, capsys):
    assert dcae(monkeypatch, "diff", str(made.bundle), str(made.results / "demo")) == 0
    assert dcae(monkeypatch, "diff", str(made.folder), str(made.bundle)) == 0
    assert capsys.readouterr().out.count("no cell differs") == 2


def test_tables_of_a_bundle_are_those_in_it_whatever_the_checkout_has(made, tmp_path, monkeypatch):
    monkeypatch.setattr("dcae.benchmark.config.REPOSITORY_CONFIG", tmp_path / "nowhere")
    monkeypatch.setattr("evaluation.published.read_published.__defaults__", (tmp_path / "nowhere",))
    assert dcae(monkeypatch, "tables", str(made.bundle), "--output", str(tmp_path / "tables")) == 0
    remade = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    assert remade == {path.name: path.read_bytes() for path in (made.folder / "results/demo/tables").iterdir()}


def test_tables_of_a_bundle_need_a_folder(made, monkeypatch, capsys):
    assert dcae(monkeypatch, "tables", str(made.bundle)) == 1
    assert "give --output FOLDER" in capsys.readouterr().err


# --- what is no bundle ---


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "was changed": change,
    "is missing": Path.unlink,
    "is not listed": lambda path: shutil.copyfile(path, path.with_name("more.json")),
    "is a link": lambda path: path.with_name("more.json").symlink_to(path),
}


@pytest.mark.parametrize("told", DAMAGE)
def test_a_bundle_that_is_not_as_it_was_made_is_refused_and_the_file_named(told, made, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / "demo")
    DAMAGE[told](folder / RECORD)
    archive = shutil.make_archive(str(tmp_path / "demo"), "zip", folder)
    name = RECORD if told in ("was changed", "is missing") else RECORD.replace("blur", "more")
    for path in (folder, Path(archive)) if told != "is a link" else (folder,):
        with pytest.raises(BundleError, match=f"{name} {told}"), opened(path):
            raise AssertionError("it was opened")


def archive(path: Path, name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Path:
    member = zipfile.ZipInfo(name)
    member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
    return path


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "config/../../outside", "..\\outside", "C:/x"])
def test_nothing_is_unpacked_outside_the_folder(name, tmp_path):
    with pytest.raises(BundleError, match="lies outside the bundle"), opened(archive(tmp_path / "a.zip", name)):
        raise AssertionError("it was opened")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_archives_that_unfold_to_too_much_are_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    link = archive(tmp_path / "a.zip", "config/demo.yaml", b"/etc/hostname", stat.S_IFLNK | 0o777)
    with pytest.raises(BundleError, match=r"config/demo\.yaml is a link"), opened(link):
        raise AssertionError("it was opened")
    monkeypatch.setattr(opening, "SMALL", 1000)
    bomb = archive(tmp_path / "b.zip", METADATA, bytes(1_000_000))
    with pytest.raises(BundleError, match="holds 1,000,000 bytes, more than"), opened(bomb):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and nothing more", b"[]"])
def test_a_file_that_is_no_archive_is_told_in_one_line(content, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.zip").write_bytes(content)
    assert dcae(monkeypatch, "tables", str(tmp_path / "a.zip"), "--output", str(tmp_path / "tables")) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path / 'a.zip'}: not a bundle") and told.count("\n") == 1


@pytest.mark.parametrize("content", [b"{", b'{"@graph": [{"@type": "File", "@id": "x"}]}', b'{"@graph": []}', b"[]"])
def test_a_crate_of_others_is_told_in_one_line(content, tmp_path):
    with pytest.raises(BundleError, match="RO-Crate"), opened(archive(tmp_path / "a.zip", METADATA, content)):
        raise AssertionError("it was opened")
