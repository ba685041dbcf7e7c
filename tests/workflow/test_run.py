# SPDX-License-Identifier: Apache-2.0
"""``dcae run``: an added entry is all that is computed; a failed run ends with the cells, the reason and the log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import yaml

from dcae.benchmark import Benchmark
from tests.workflow.conftest import TINY
from workflow import layout
from workflow.summary import failures

MINE = """
kind: python
factory: mine:Mine
spatial_compression: 16
latent_channels: 768
latent_scale: measured
"""
CODE = """
import os, torch

class Mine(torch.nn.Module):
    def encode(self, images):
        if "DCAE_CONFIGURED" in os.environ and len(images) > 1:
            raise ValueError("too many images")
        return torch.nn.functional.pixel_unshuffle(images, 16)

    def decode(self, latents):
        return torch.nn.functional.pixel_shuffle(latents, 16)
"""


def test_an_added_entry_is_all_that_is_computed_and_a_failure_is_summed_up(finished):
    (finished.folder / "mine.py").write_text(CODE)
    (finished.folder / "mine.yaml").write_text(MINE)
    arguments = ("dcae", "run", TINY, "--with", "mine.yaml", "--cores", "2")
    planned = finished.run(*arguments, "--dry-run").stdout
    assert "train autoencoder" not in planned, "the trained ones are there"
    for step in ("encode", "train denoiser", "evaluate", "generate", "profile"):
        assert f"dcae {step} config/tiny.yaml" in planned, step
    assert "--autoencoder dc-ae-tiny " not in planned, "it is there already"
    failed = finished.run(*arguments, "--only", "table2", check=False, DCAE_CONFIGURED="1")
    assert failed.returncode == 1
    summary = failed.stderr.split("have no record:")[1]
    assert "ValueError: too many images" in summary
    assert "log: results/tiny/logs/reconstruction/scenes-tiny-64-mine.log" in summary
    finished.run(*arguments, "--only", "table2")
    assert "mine" in (finished.folder / "results/tiny/tables/table2.csv").read_text()
    assert TINY in (finished.folder / "results/tiny/records/reconstruction/scenes-tiny-64/mine.json").read_text()
    assert finished.stale_rules("table2") == {"table2": 1}, "without --with, all is as before"


def test_an_added_entry_joins_results_without_weights(finished):
    (finished.folder / "mine.py").write_text(CODE)
    (finished.folder / "mine.yaml").write_text(MINE)
    results = finished.folder / "results/tiny"
    before = pd.read_csv(results / "tables/table2.csv", dtype=str)
    for folder in ("autoencoders", "diffusion", "latents", "reference", "generated"):
        shutil.rmtree(results / folder)
    arguments = ("dcae", "run", TINY, "--with", "mine.yaml", "--cores", "2")
    planned = finished.run(*arguments, "--dry-run").stdout
    assert "dcae generate" in planned and "--autoencoder mine " in planned
    assert f"workflow tables {TINY}" in planned, "tables, figures and page follow"
    assert "train autoencoder" not in planned and "--autoencoder dc-ae-tiny " not in planned
    finished.run(*arguments, "--only", "table2")
    after = pd.read_csv(results / "tables/table2.csv", dtype=str)
    added = after["Autoencoder"].str.startswith("mine")
    assert added.any()
    pd.testing.assert_frame_equal(after[~added].reset_index(drop=True), before)


def test_a_benchmark_says_which_diffusion_models_a_new_entry_gets(clone, monkeypatch):
    from workflow.extended import extend

    path = clone.folder / TINY
    content = yaml.safe_load(path.read_text())
    named = content["generation"][0] | {"autoencoders": ["dc-ae-tiny"], "diffusion": "uvit-demo"}
    content["generation"] += [named, named | {"diffusion": "dit-demo", "new_autoencoders": True}]
    path.write_text(yaml.safe_dump(content))
    (clone.folder / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(clone.folder)
    monkeypatch.setattr("workflow.extended.REPOSITORY_CONFIG", clone.folder / "config")
    monkeypatch.setattr("dcae.benchmark.config.REPOSITORY_CONFIG", clone.folder / "config")
    benchmark = Benchmark.load(extend(path, [clone.folder / "mine.yaml"]))
    assert benchmark.name == "tiny"
    got = {cell.diffusion for cell in benchmark.cells.generation if cell.autoencoder == "mine"}
    assert got == {"uvit-tiny", "dit-demo"}


def test_the_summary_names_the_first_step_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    benchmark = Benchmark.load(Path(__file__).parent / "config" / "tiny.yaml")
    log = layout.file("tiny", layout.TRAINING_ATTEMPTS, autoencoder="dc-ae-tiny", phase="low-resolution-full")
    log.parent.mkdir(parents=True)
    log.write_text("step 1\nerror: loss is not finite\n\n")
    lines = failures(benchmark)
    assert lines[0] == "6 cells have no record:"
    assert "  training of dc-ae-tiny, low-resolution-full: error: loss is not finite" in lines
    assert f"    log: {log}" in lines
    assert "  reference features of scenes-tiny: not started" in lines


def test_the_summary_misses_nothing_that_led_to_records_without_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    benchmark = Benchmark.load(Path(__file__).parent / "config" / "tiny.yaml")

    def put(pattern: str, cell) -> None:
        record = layout.file("tiny", pattern, **vars(cell))
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("{}")

    for cell in benchmark.cells.reconstruction:
        put(layout.RECONSTRUCTION_RECORD, cell)
    for cell in benchmark.cells.generation:
        put(layout.GENERATION_RECORD, cell)
    assert [line for line in failures(benchmark) if line.startswith("  ") and ":" in line] == [
        "  efficiency: not started"
    ]
    for cell in benchmark.cells.generation:
        put(layout.EFFICIENCY_RECORD, cell)
    assert failures(benchmark) == []
