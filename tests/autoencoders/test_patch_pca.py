# SPDX-License-Identifier: Apache-2.0
"""The linear control: equal to a singular value decomposition, and fitted on training images alone."""

import numpy as np
import pytest
import torch

from dcae.autoencoders.loading import load
from dcae.autoencoders.patch_pca import PatchPCA, patch_pca, principal_components
from dcae.benchmark.entries import ScenesEntry
from dcae.data.loading import open_dataset

SCENES = {"kind": "scenes", "classes": ["shapes", "face"], "train_images": 24, "validation_images": 4}


@pytest.mark.parametrize("number", [20, 200])  # fewer and more rows than values
def test_components_are_those_of_a_singular_value_decomposition(number):
    rows = np.random.default_rng(0).normal(size=(number, 48)) * np.linspace(3, 0.1, 48) + 2
    mean, components, variances = principal_components(rows, 5)
    expected = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:5]
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(abs(components @ expected.T), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(variances, ((rows - mean) @ expected.T).var(axis=0))


def test_reconstructions_are_projections_of_squares_of_pixels():
    fitted = patch_pca(8, 6, SCENES, resolution=32, images=24)
    images = open_dataset(ScenesEntry(name="s", **SCENES), "validation", 32).batch(range(4)).float() / 127.5 - 1
    squares = torch.nn.functional.unfold(images, 8, stride=8).transpose(1, 2)  # [B, 16, 192]
    expected = fitted.mean + (squares - fitted.mean) @ fitted.components.T @ fitted.components
    found = torch.nn.functional.unfold(fitted(images), 8, stride=8).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert fitted.encode(images).shape == (4, 6, 4, 4)
    assert (fitted(images) - images).square().mean() < (squares - squares.mean((0, 1))).square().mean()


def test_normalised_latents_have_unit_rms():
    fitted = patch_pca(8, 6, SCENES, resolution=32, images=24)
    images = open_dataset(ScenesEntry(name="s", **SCENES), "train", 32).batch(range(24)).float() / 127.5 - 1
    latents = fitted.encode(images) * fitted.latent_scale
    assert float(latents.square().mean().sqrt()) == pytest.approx(1, rel=1e-5)


def test_its_entries_fit_the_contract():
    shape = {"spatial_compression": 16, "latent_channels": 8}
    arguments = {**shape, "dataset": SCENES, "resolution": 32, "images": 24}
    factory = "dcae.autoencoders.patch_pca:patch_pca"
    autoencoder = load({"kind": "python", **shape, "factory": factory, "arguments": arguments})
    assert isinstance(autoencoder, PatchPCA) and autoencoder.spatial_compression == 16


def test_shapes_alone_need_no_images():
    assert load("patch-pca-f64c256", device="meta").components.shape == (256, 12288)


def test_too_few_images_are_an_error():
    with pytest.raises(ValueError, match="fit on more images"):
        patch_pca(32, 30, SCENES, resolution=32, images=24)
