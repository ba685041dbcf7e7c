# SPDX-License-Identifier: Apache-2.0
"""A new metric is one entry of the registry: records, rows of images, subsets and the comparison follow."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from evaluation.comparison.compare import Contender, compare, write_comparison
from evaluation.comparison.pictures import find_pictures
from evaluation.features.reference import write_reference
from evaluation.metrics.frechet import Reference
from evaluation.metrics.registry import CLIP_SCORE, IMAGE_METRICS, METRICS, SET_METRICS, ImageMetric, set_metrics
from evaluation.quality.reconstruction import evaluate_reconstruction, reconstruct_pixels, write_rows

TOY = ImageMetric(
    "largest", "Largest error", "lower", 1, unit="levels", range=(0.0, 255.0),
    load=lambda weights, device: lambda a, b: (a.double() - b.double()).abs().flatten(1).amax(1),
)  # fmt: skip
WITH_TOY = (*IMAGE_METRICS, TOY)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return find_pictures(folder, 64)


def test_a_registered_metric_is_in_values_and_rows(pictures, tmp_path):
    protocol = Config().entry("protocols", "random-features").model_copy(update={"reconstruction_images": 3})
    reference, rows = tmp_path / "reference.safetensors", tmp_path / "rows.parquet"
    write_reference(pictures, 3, protocol, reference, metrics=WITH_TOY)
    result = evaluate_reconstruction(load("blur"), pictures, protocol, reference, metrics=WITH_TOY)
    inputs = pictures.batch(range(3))
    errors = (reconstruct_pixels(load("blur"), inputs).double() - inputs.double()).abs().flatten(1).amax(1)
    assert list(result.values) == ["psnr", "ssim", "lpips", "largest"]
    value = result.values["largest"]
    assert (value.value, value.n, value.unit) == (pytest.approx(float(errors.mean())), 3, "levels")
    write_rows(result, rows)
    assert pandas.read_parquet(rows)["largest"].tolist() == errors.tolist()


def test_a_registered_metric_is_in_the_comparison(pictures, tmp_path):
    contenders = [Contender(Config().entry("autoencoders", name)) for name in ("blur", "mean-colour")]
    protocol = Config().entry("protocols", "random-features")
    found = compare(pictures.folder, contenders, protocol, 64, Config(), shown=1, tell=lambda _: None, metrics=WITH_TOY)
    page = write_comparison(found, tmp_path / "out", {})[0].read_text()
    value = found.measured["blur"].values["largest"]
    assert "Largest error (levels) ↓" in page and f"Largest error {value.value:.3g}"[:15] in page
    [blur, _] = csv.DictReader((tmp_path / "out" / "reconstruction.csv").open())
    assert float(blur["Largest error (levels)"]) == value.value
    [difference] = csv.DictReader((tmp_path / "out" / "differences.csv").open())
    assert "Largest error (levels), A − B" in difference
    assert "largest" in next(csv.reader((tmp_path / "out" / "per_image.csv").open()))


@pytest.mark.parametrize("metric", [*METRICS, CLIP_SCORE], ids=lambda metric: metric.name)
def test_each_metric_is_complete(metric):
    low, high = metric.range
    assert low < high and metric.perfect in (low, high) and metric.decimals >= 0
    assert metric.heading.startswith(metric.title)


def test_names_are_told_apart():
    names = [metric.name for metric in (*METRICS, CLIP_SCORE)]
    names += [metric.of_reconstructions().name for metric in SET_METRICS if metric.prefixed]
    assert len(set(names)) == len(names)
    assert set_metrics(METRICS) == list(SET_METRICS)


def test_tables_read_the_registry_without_torch():
    program = "import sys, evaluation.metrics.registry; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_values_of_sets_are_those_of_the_features_alone():
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    for metric in SET_METRICS:
        if metric.fewest <= len(features):
            value = metric.compute(features, Reference(features, None), True)
            assert value.value == pytest.approx(metric.perfect, abs=1e-9), metric.name
