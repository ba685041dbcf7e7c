# SPDX-License-Identifier: Apache-2.0
"""results/miniature: tables, figures, page and claims are what its records give, and weights give their numbers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from dcae.autoencoders.loading import load
from dcae.benchmark import Benchmark
from dcae.data.loading import open_dataset
from evaluation.metrics.paired import read_rows
from workflow import layout
from workflow.commands.tables import read_results, stale

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "results" / "miniature"
BENCHMARK = Benchmark.load(ROOT / "config" / "miniature.yaml")
MOST_BYTES = 60e6
WITH_WEIGHTS = ("sd-vae-f8c4-mini", "dc-ae-f8c4-mini", "dc-ae-f32c64-mini")  # those of the others are too large
READ = (layout.RECORDS, "per_image", "samples", "autoencoders", "diffusion")
WRITTEN = (layout.TABLES, layout.FIGURES, layout.PAGE)
SLOWEST_COMMAND = 900  # seconds; the figures take one minute on a quiet machine
IMAGES = 16
ROUNDING = 0.01  # dB: kernels of another CPU round otherwise


@pytest.fixture(scope="module")
def remade(tmp_path_factory) -> Path:
    """Return a folder with what the commands make of the committed records."""
    results = tmp_path_factory.mktemp("results")
    for name in READ:
        shutil.copytree(COMMITTED / name, results / "miniature" / name)
    for command in ("tables", "figures", "page"):
        finished = subprocess.run(
            [sys.executable, "-P", "-m", "workflow", command, "config/miniature.yaml", "--results", str(results)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SLOWEST_COMMAND,
        )
        assert finished.returncode == 0, finished.stderr
        assert "LEFT OUT" not in finished.stderr
    return results / "miniature"


@pytest.mark.parametrize("name", WRITTEN)
def test_files_are_remade_to_the_byte(remade, name):
    def contents(folder: Path) -> dict[str, bytes]:
        place = folder / name
        files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    expected, made = contents(COMMITTED), contents(remade)
    assert made.keys() == expected.keys()
    assert [path for path in expected if made[path] != expected[path]] == []


def test_records_are_of_the_benchmark_as_it_is_configured():
    measured = read_results(BENCHMARK, ROOT / "results")
    assert measured
    assert stale(BENCHMARK, measured) == []


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_give_the_recorded_numbers(name):
    final = BENCHMARK.final_training(name)
    place = layout.file("miniature", layout.AUTOENCODER, ROOT / "results", autoencoder=name, phase=final.phase)
    autoencoder = load(final.entry, weights=place).eval()
    images = open_dataset(BENCHMARK.dataset("large-scenes"), "validation", 64).batch(range(IMAGES))
    with torch.inference_mode():
        decoded = autoencoder.decode(autoencoder.encode(images.float() / 127.5 - 1))
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
    psnr = -10 * ((pixels - images) / 255).square().mean(dim=(1, 2, 3)).log10()
    rows = read_rows(COMMITTED / "per_image" / "large-scenes-64" / f"{name}.parquet")
    assert psnr.tolist() == pytest.approx(rows["psnr"][:IMAGES].tolist(), abs=ROUNDING)


def test_the_size_of_what_is_committed():
    tracked = subprocess.run(["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in tracked.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.is_relative_to(COMMITTED)) < MOST_BYTES
    assert not [path for path in files if path.suffix in (".pt", ".pth", ".pkl")]


def rows_for_the_readme() -> list[str]:
    """Return a row for each claim, with the first comparison that has the claim's own verdict."""
    comparisons = pd.read_csv(COMMITTED / "tables" / "claims.csv", dtype=str, keep_default_na=False)
    rows = []
    for _, claim in comparisons.groupby("Id", sort=False):
        verdict = claim["Verdict on the claim"].iloc[0]
        told = next(
            (row for _, row in claim.iterrows() if row["Verdict"].startswith(verdict) and row["Low"]), claim.iloc[0]
        )
        measured = "–"
        if told["Low"]:
            times = "×" if told["Reproduced if"].startswith("ratio") else ""
            value, low, high = (f"{float(told[name]):.3g}" for name in ("A against B", "Low", "High"))
            measured = f"{told['Metric']} {value}{times}" + (f" ({low} to {high})" if low != high else "")
        text = f"{told['Statement']} ({told['Place in the paper']})"
        rows.append(f"| {text} | {measured} | {told['Paper'] or '–'} | **{verdict}** |")
    return rows


def test_the_readme_has_the_claims_as_they_are():
    """To mend it, put this function's rows there."""
    found = [
        line for line in (ROOT / "README.md").read_text().splitlines() if re.search(r"\| \*\*[a-z ]+\*\* \|$", line)
    ]
    assert found == rows_for_the_readme()
