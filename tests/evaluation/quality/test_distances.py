# SPDX-License-Identifier: Apache-2.0
"""Metrics on images with faces and with text: which images these are, what is left out, and that others pay nothing."""

import numpy as np
import pandas
import pytest
import torch
from safetensors import safe_open

import evaluation.features.detectors
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import Protocol, SubsetDetector
from dcae.data.dataset import ImageDataset
from evaluation.features.reference import ReferenceError, read_detections, write_reference
from evaluation.metrics.frechet import Reference
from evaluation.metrics.kid_cmmd import kernel_inception_distance
from evaluation.quality.distances import distances, members
from evaluation.quality.reconstruction import evaluate_reconstruction, write_rows
from tests.evaluation import tiny_detectors

IMAGES = 6
FACE = SubsetDetector(detector="yunet", weights=tiny_detectors.FACES, score=0.9, smallest_share=0.05)
TEXT = SubsetDetector(detector="db", weights=tiny_detectors.TEXT, score=0.5)


class Squares(ImageDataset):
    """Noise, in which images 1, 2 and 4 have a red square, that of image 2 a small one."""

    resolution, classes, fingerprint = 64, ["square"], "squares"
    sides = (0, 40, 8, 0, 32, 0)

    def __len__(self):
        return len(self.sides)

    def pixels(self, index, epoch=0):
        pixels = np.random.default_rng(index).integers(0, 80, (3, 64, 64)).astype(np.uint8)
        pixels[:, : self.sides[index], : self.sides[index]] = np.reshape((255, 0, 0), (3, 1, 1))
        return pixels

    def label(self, index):
        return 0

    def caption(self, index):
        return ""


@pytest.fixture(scope="module")
def _files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    files = {tiny_detectors.FACES: tiny_detectors.faces(), tiny_detectors.TEXT: tiny_detectors.text()}
    return tiny_detectors.catalogue(folder, files, missing=[tiny_detectors.TEXT])


@pytest.fixture(autouse=True)
def weights(_files, monkeypatch):
    """The detector of faces is there, that of text is missing."""
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(_files))


def protocol(**subsets: SubsetDetector) -> Protocol:
    changes = {"reconstruction_images": IMAGES, "subsets": subsets or None}
    return Config().entry("protocols", "random-features").model_copy(update=changes)


BOTH = {"face": FACE, "text": TEXT}


@pytest.fixture(scope="module")
def reference(_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "features.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCAE_WEIGHTS_CATALOGUE", str(_files))
        write_reference(Squares(), IMAGES, protocol(**BOTH), path, batch_size=4)
    return path


@pytest.fixture(scope="module")
def result(_files, reference):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCAE_WEIGHTS_CATALOGUE", str(_files))
        return evaluate_reconstruction(load("blur"), Squares(), protocol(**BOTH), reference)


def test_faces_are_found_in_the_originals_and_kept_with_the_reference(reference):
    found = read_detections(reference, protocol(face=FACE))["face"]
    assert found.shape == (IMAGES, 2) and found.dtype == torch.float64
    assert (found[:, 0] > 0).tolist() == [False, True, True, False, True, False]
    torch.testing.assert_close(found[:, 1], torch.tensor(Squares.sides).double().div(64).square(), rtol=0.2, atol=0.01)


def test_a_subset_is_measured_by_the_rows_of_its_images_alone(result):
    chosen = [1, 4]  # the face of image 2 is too small
    for metric in ("psnr", "ssim", "lpips"):
        value, rows = result.values[f"{metric}_face"], result.per_image[metric][chosen]
        assert value.n == 2
        assert value.value == pytest.approx(float(rows.mean()))
        assert value.standard_error == pytest.approx(float(rows.std()) / 2**0.5)
        assert value.unit == result.values[metric].unit
        assert value.random_features == (metric == "lpips")
    assert result.values["psnr"].n == IMAGES


def test_a_subset_whose_detector_is_missing_is_left_out_by_name(result):
    assert not any(name.endswith("_text") for name in result.values)
    for metric in ("psnr", "ssim", "lpips"):
        reason = result.excluded[f"{metric}_text"]
        assert "missing weights 'ppocr-v3-text-detection'" in reason and "write it again" in reason


def test_too_few_images_are_left_out_with_their_number(reference):
    fewer = protocol(face=FACE.model_copy(update={"smallest_share": 0.3}))
    found = evaluate_reconstruction(load("mean-colour"), Squares(), fewer, reference)
    assert found.excluded["psnr_face"] == "needs at least 2 images with face, there are 1 of 6"


def test_rows_say_what_each_image_shows(result, tmp_path):
    write_rows(result, tmp_path / "rows.parquet")
    table = pandas.read_parquet(tmp_path / "rows.parquet")
    assert list(table.columns) == ["image", "psnr", "ssim", "lpips", "face_count", "face_share"]
    assert list(table["face_share"] > 0.05) == [False, True, False, False, True, False]


def test_membership_needs_something_found_even_if_no_share_is_asked_for():
    detections = torch.tensor([[0, 0], [1, 0.01], [2, 0.5]], dtype=torch.float64)
    assert members(detections, 0).tolist() == [False, True, True]
    assert members(detections, 0.1).tolist() == [False, False, True]


def test_a_protocol_without_subsets_loads_no_detector_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation.features.detectors, "Detector", lambda subset: pytest.fail("loaded"))
    path = tmp_path / "reference.safetensors"
    write_reference(Squares(), 3, protocol(), path)
    with safe_open(path, "pt") as file:
        assert not [name for name in (*file.keys(), *file.metadata().values()) if "detections" in name]
    with pytest.raises(ReferenceError, match=r"reference\.safetensors: face was not looked for; write it again"):
        read_detections(path, protocol(face=FACE))


def test_kid_of_reconstructions_is_by_the_protocols_estimator():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(60, 32, generator=generator)
    made = real + 0.05 * torch.rand(60, 32, generator=generator)
    for estimator, paired in (("paired", True), ("unpaired", False)):
        chosen = protocol().model_copy(update={"kid_estimator": estimator})
        found = distances({"inception": made}, {"inception": Reference(real, None)}, chosen, paired=True)
        assert found.values["kid"].value == kernel_inception_distance(made, real, paired).estimate
