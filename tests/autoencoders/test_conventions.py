# SPDX-License-Identifier: Apache-2.0
"""What goes to a class of diffusers comes back: image ranges, videos of one frame, squares of latents as channels."""

from __future__ import annotations

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.autoencoders.conventions import images_from_model, images_to_model, latents_from_model, latents_to_model
from dcae.benchmark.entries import Conventions

RANGES = st.tuples(st.floats(-300, 300), st.floats(0.1, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))
CONVENTIONS = st.builds(Conventions, image_range=RANGES, video=st.booleans(), latent_patch_size=st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(conventions=CONVENTIONS, seed=st.integers(0, 100))
def test_images_and_latents_come_back(conventions, seed):
    images = torch.rand(2, 3, 12, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    there = images_to_model(images, conventions)
    low, high = conventions.image_range
    rounding = 1e-9 * max(abs(low), abs(high))
    assert low - rounding <= there.min() and there.max() <= high + rounding
    assert there.shape == ((2, 3, 1, 12, 24) if conventions.video else images.shape)
    torch.testing.assert_close(images_from_model(there, conventions), images)
    ours = torch.rand(2, 5 * conventions.latent_patch_size**2, 3, 6)
    theirs = latents_to_model(ours, conventions)
    assert theirs.shape[1] == 5 and theirs.dim() == (5 if conventions.video else 4)
    assert torch.equal(latents_from_model(theirs, conventions), ours)


def test_without_conventions_nothing_is_computed():
    images = torch.rand(1, 3, 8, 8)
    assert images_to_model(images, Conventions()) is images and images_from_model(images, Conventions()) is images


@pytest.mark.parametrize(("value", "expected"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_the_range_from_0_to_1(value, expected):
    conventions = Conventions(image_range=(0, 1))
    assert images_to_model(torch.full((1, 3, 2, 2), value), conventions).unique().tolist() == [expected]


def test_squares_become_channels_in_the_order_of_flux2():
    latents = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    ours = latents_from_model(latents, Conventions(latent_patch_size=2))
    assert torch.equal(ours, diffusers.Flux2Pipeline._patchify_latents(latents))
