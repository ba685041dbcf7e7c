# SPDX-License-Identifier: Apache-2.0
"""Tiles that leave a local autoencoder as it is, what they change for DC-AE, and padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.autoencoders.controls import Identity
from dcae.autoencoders.loading import load
from dcae.autoencoders.tiling import PIXELS_AT_ONCE, Tiled, images_at_once, reconstruct
from dcae.benchmark import ConfigError
from dcae.benchmark.entries import Tiling
from tests.autoencoders.small import dc_ae


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 12), columns=st.integers(1, 12), tile=st.integers(2, 6), overlap=st.integers(1, 3),
    f=st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_tiles_change_nothing_where_every_latent_sees_its_own_pixels_alone(rows, columns, tile, overlap, f):
    overlap = min(overlap, tile // 2)
    local = Identity(f, 3 * f * f)
    tiled = Tiled(local, Tiling(tile=tile * f, overlap=overlap * f))
    images = torch.rand(2, 3, rows * f, columns * f)
    latents = tiled.encode(images)
    # A weighted mean of equal numbers is that number to rounding.
    torch.testing.assert_close(latents, local.encode(images), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tiled.decode(latents), images, rtol=1e-5, atol=1e-6)


class Calls(Identity):
    """Remembers the sizes that it saw."""

    def __init__(self):
        super().__init__(8, 192)
        self.sizes = []

    def encode(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        return super().encode(images)


def test_no_tile_is_larger_than_asked_for_and_small_images_are_not_tiled():
    autoencoder = Calls()
    tiled = Tiled(autoencoder, Tiling(tile=32, overlap=8))
    tiled.encode(torch.zeros(1, 3, 32, 24))
    assert autoencoder.sizes == [(32, 24)]
    autoencoder.sizes.clear()
    tiled.encode(torch.zeros(1, 3, 80, 24))
    assert autoencoder.sizes == [(32, 24)] * 3


def test_what_tiles_change_for_dc_ae_is_small_and_least_far_from_seams():
    autoencoder = load(dc_ae(), seed=1)
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16) * 2 - 1, size=(128, 128), mode="bicubic")
    with torch.no_grad():
        latents = autoencoder.encode(images)
        whole = {"encode": latents, "decode": autoencoder.decode(latents)}
        errors = {"encode": [], "decode": []}
        for overlap in (8, 32):
            tiled = Tiled(autoencoder, Tiling(tile=64, overlap=overlap))
            for name, outputs in (("encode", tiled.encode(images)), ("decode", tiled.decode(latents))):
                errors[name].append(((outputs - whole[name]).norm() / whole[name].norm()).item())
    # Random weights, two stages of global attention of a 64 px tile instead of 128 px: a tenth, not rounding and not 1.
    for narrow_overlap, wide_overlap in errors.values():
        assert 1e-6 < wide_overlap < narrow_overlap < 0.25


def test_an_entry_asks_for_tiles():
    tiled = load(dc_ae(tiling={"tile": 32, "overlap": 8}, latent_scale=0.5))
    assert isinstance(tiled, Tiled)
    assert (tiled.spatial_compression, tiled.latent_channels, tiled.latent_scale) == (8, 8, 0.5)
    assert tiled.encode(torch.zeros(1, 3, 64, 64)).shape == (1, 8, 8, 8)
    with pytest.raises(ConfigError, match="tile is 36, but must be a multiple of the spatial compression 8"):
        load(dc_ae(tiling={"tile": 36, "overlap": 8}))
    with pytest.raises(ConfigError, match="overlap 24 is more than half of tile 32"):
        load(dc_ae(tiling={"tile": 32, "overlap": 24}))


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize(("rows", "columns"), [(33, 40), (3, 2), (64, 64)])
def test_padding_is_cropped_again(padding, rows, columns):
    images = torch.rand(2, 3, rows, columns)
    assert torch.equal(reconstruct(Identity(8, 192), images, padding), images)


def test_a_side_of_one_pixel_is_repeated():
    images = torch.rand(1, 3, 1, 30)
    for padding in ("reflect", "replicate"):
        assert torch.equal(reconstruct(Identity(8, 192), images, padding), images)


@pytest.mark.parametrize("autoencoder", [dc_ae(), dc_ae(tiling={"tile": 16, "overlap": 8})])
def test_sizes_that_f_does_not_divide_are_refused_without_padding(autoencoder):
    autoencoder = load(autoencoder)
    for run in (autoencoder.encode, lambda images: reconstruct(autoencoder, images)):
        with pytest.raises(ValueError, match="36 x 32 px cannot be encoded with f8: both sides must be multiples of 8"):
            run(torch.zeros(1, 3, 32, 36))


@pytest.mark.parametrize(("resolution", "images"), [(64, 32), (256, 32), (512, 16), (1024, 4), (2048, 1), (4096, 1)])
def test_the_more_pixels_the_fewer_images(resolution, images):
    assert images_at_once(resolution, at_most=32) == images


@given(st.integers(1, 8192), st.integers(1, 256))
def test_there_is_always_one_and_never_more_than_asked_for(resolution, at_most):
    images = images_at_once(resolution, at_most)
    assert 1 <= images <= at_most
    assert images == 1 or images * resolution**2 <= PIXELS_AT_ONCE
