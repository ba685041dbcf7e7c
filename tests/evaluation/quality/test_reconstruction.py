# SPDX-License-Identifier: Apache-2.0
"""Reconstruction metrics: the controls land where they belong, and each number is the libraries' own."""

import math
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor

from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import PhotographsEntry, Protocol
from dcae.data.dataset import ImageDataset
from dcae.data.loading import open_dataset
from dcae.training.perceptual import perceptual_network
from evaluation.features.reference import batches, write_reference
from evaluation.metrics.frechet import frechet_distance_of_features
from evaluation.metrics.registry import mean_value
from evaluation.quality.reconstruction import Reconstruction, evaluate_reconstruction, reconstruct_pixels, write_rows

IMAGES = 6
CONTROLS = ("identity", "blur", "mean-colour")


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return Config().entry("protocols", "random-features").model_copy(update={"reconstruction_images": IMAGES})


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    entry = PhotographsEntry(name="photographs", kind="photographs", train_images=8, validation_images=8)
    return open_dataset(entry, "validation", 64)


@pytest.fixture(scope="module")
def reference(dataset, protocol, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "features.safetensors"
    write_reference(dataset, IMAGES, protocol, path)
    return path


@pytest.fixture(scope="module")
def results(dataset, protocol, reference) -> dict[str, Reconstruction]:
    return {name: evaluate_reconstruction(load(name), dataset, protocol, reference) for name in CONTROLS}


def test_the_identity_is_perfect(results):
    values = results["identity"].values
    assert values["psnr"].value == math.inf
    assert values["psnr"].standard_error is None
    assert values["ssim"].value == pytest.approx(1, abs=1e-6)
    assert values["lpips"].value == pytest.approx(0, abs=1e-6)
    assert abs(values["rfid"].value) < 1e-3 * results["mean-colour"].values["rfid"].value
    assert torch.equal(results["identity"].pairs[:, 0], results["identity"].pairs[:, 1])


@pytest.mark.parametrize(("metric", "sign"), [("rfid", 1), ("lpips", 1), ("psnr", -1), ("ssim", -1)])
def test_blur_is_worse_than_the_identity_and_one_colour_is_worst(metric, sign, results):
    identity, blur, mean_colour = (sign * results[name].values[metric].value for name in CONTROLS)
    assert identity < blur < mean_colour


def test_values_say_where_they_come_from(results):
    values = results["blur"].values
    assert list(values) == ["rfid", "psnr", "ssim", "lpips", "kid", "precision", "recall"]
    assert [name for name, value in values.items() if not value.random_features] == ["psnr", "ssim"]
    assert {value.n for value in values.values()} == {IMAGES}
    assert values["psnr"].unit == "dB"
    for name in ("rfid", "psnr", "ssim", "lpips"):
        assert 0 < values[name].standard_error < abs(values[name].value)
    assert len(values["rfid"].leave_group_out) == IMAGES
    assert results["blur"].excluded == {"rfid_infinity": "needs at least 25000 images, there are 6"}


def test_numbers_are_means_over_images(results):
    result = results["blur"]
    for name, rows in result.per_image.items():
        assert rows.shape == (IMAGES,)
        assert result.values[name].value == pytest.approx(float(rows.mean()))
        assert result.values[name].standard_error == pytest.approx(float(rows.std()) / IMAGES**0.5)


def test_lpips_is_the_packages_own(results, dataset, protocol):
    images = next(batches(dataset, IMAGES, IMAGES))
    outputs = reconstruct_pixels(load("blur"), images)
    network = perceptual_network(protocol.lpips)
    with torch.no_grad():
        expected = network(outputs.float() / 255, images.float() / 255, normalize=True).flatten()
        wrong_range = network(outputs.float() / 255, images.float() / 255).flatten()
    torch.testing.assert_close(results["blur"].per_image["lpips"].float(), expected, rtol=1e-4, atol=1e-6)
    assert wrong_range.mean() < 0.8 * expected.mean()  # [0, 1] taken for [-1, 1] makes it small


def test_rfid_is_the_distance_of_torch_fidelitys_features(results, dataset, protocol, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from evaluation.features.inception import load_inception

    state = load_inception(protocol.inception).state_dict()
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "weights.pth")
    extractor = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=tmp_path / "weights.pth")
    images = next(batches(dataset, IMAGES, IMAGES))
    reference = tmp_path / "reference.safetensors"
    tensorflow1 = protocol.model_copy(update={"inception_resize": "tensorflow1"})
    write_reference(dataset, IMAGES, tensorflow1, reference)
    measured = evaluate_reconstruction(load("blur"), dataset, tensorflow1, reference).values["rfid"].value
    features = [extractor(each)[0] for each in (reconstruct_pixels(load("blur"), images), images)]
    assert measured == pytest.approx(frechet_distance_of_features(*features), rel=1e-3)  # float32 networks
    assert measured != pytest.approx(results["blur"].values["rfid"].value, rel=1e-3)  # the resize counts


def test_rows_are_written_for_paired_comparisons(results, tmp_path):
    path = tmp_path / "rows" / "blur.parquet"
    write_rows(results["blur"], path)
    table = pandas.read_parquet(path)
    assert list(table.columns) == ["image", "psnr", "ssim", "lpips"]
    assert list(table["image"]) == list(range(IMAGES))
    np.testing.assert_array_equal(table["ssim"], results["blur"].per_image["ssim"])
    assert [each.name for each in path.parent.iterdir()] == ["blur.parquet"]


def test_pairs_to_look_at_are_inputs_and_reconstructions(results, dataset):
    pairs = results["blur"].pairs
    assert pairs.shape == (IMAGES, 2, 3, 64, 64)
    assert pairs.dtype == torch.uint8
    assert torch.equal(pairs[3, 0], dataset[3].image)
    assert torch.equal(pairs[3, 1], reconstruct_pixels(load("blur"), dataset[3].image[None])[0])


class Broken(torch.nn.Module):
    """An autoencoder that returns what it is told to."""

    spatial_compression = 1

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return self.output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.full((1, 3, 8, 8), math.nan), "NaN"),
        (torch.zeros(1, 3, 4, 4), r"reconstructed as \(1, 3, 4, 4\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"reconstructed as a tensor of torch.uint8"),
        ((torch.zeros(1, 3, 8, 8),), "reconstructed as an object of type tuple"),
    ],
)
def test_broken_reconstructions_are_errors(output, message):
    with pytest.raises(ValueError, match=message):
        reconstruct_pixels(Broken(output), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


class Enlarging(torch.nn.Module):
    """Latents are the images; only sides that are multiples of 32 are taken."""

    spatial_compression = 32

    def encode(self, images: Tensor) -> Tensor:
        assert images.shape[-1] % 32 == images.shape[-2] % 32 == 0
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def test_sides_that_f_does_not_divide_are_padded_if_asked_for_and_refused_otherwise():
    images = torch.randint(0, 256, (2, 3, 40, 24), dtype=torch.uint8)
    assert torch.equal(reconstruct_pixels(Enlarging(), images, padding="reflect"), images)
    with pytest.raises(ValueError, match="multiple"):
        reconstruct_pixels(Enlarging(), images)


def test_a_blank_picture_leaves_the_others_their_psnr(results):
    """It comes back unchanged from every control, with an infinite PSNR."""
    value = mean_value(torch.tensor([20.0, math.inf, 24.0]), "dB")
    assert (value.value, value.standard_error, value.n, value.unchanged) == (22.0, pytest.approx(2.0), 3, 1)
    found = replace(results["blur"], values={**results["blur"].values, "psnr": value})
    assert found.remarks == ["PSNR: 1 of 3 images came back unchanged; the mean is that of the others"]
    assert results["identity"].remarks == [] and math.isinf(results["identity"].values["psnr"].value)
