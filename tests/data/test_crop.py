# SPDX-License-Identifier: Apache-2.0
"""The ADM crop against torch's own resampling, and what must hold at any size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcae.data.crop import adm_crop, random_crop, to_pixels

sizes = st.integers(1, 300)
resolutions = st.sampled_from([16, 32, 50])


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-20, 20, (height, width, 3))).clip(0, 255).astype(np.uint8))


def adm_crop_in_torch(image: Image.Image, resolution: int) -> torch.Tensor:
    """The same steps on tensors. Like Pillow, it scales rows, then columns, and rounds to uint8 after each."""

    def rounded(pixels):
        return (pixels + 0.5).floor().clamp(0, 255)

    pixels = torch.from_numpy(to_pixels(image))[None].double()
    while min(pixels.shape[2:]) >= 2 * resolution:
        pixels = rounded(torch.nn.functional.avg_pool2d(pixels, (1, 2)))
        pixels = rounded(torch.nn.functional.avg_pool2d(pixels, (2, 1)))
    scale = resolution / min(pixels.shape[2:])
    height, width = (round(side * scale) for side in pixels.shape[2:])
    for size in ((pixels.shape[2], width), (height, width)):
        pixels = rounded(torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True))
    top, left = (height - resolution) // 2, (width - resolution) // 2
    return pixels[0, :, top : top + resolution, left : left + resolution]


# Sides are multiples of 8, so that every halving is a plain mean of 2 x 2 pixels.
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (200, 136), (136, 200), (400, 264), (24, 40), (488, 320)])
def test_equals_the_same_steps_in_torch(size):
    image = picture(*size)
    cropped = to_pixels(adm_crop(image, 32)).astype(float)
    expected = adm_crop_in_torch(image, 32).numpy()
    assert abs(cropped - expected).max() <= 1  # Pillow computes weights in fixed point
    assert abs(cropped - expected).mean() < 0.05


def test_odd_sides_are_halved_downwards():
    """67 x 65 pixels become 33 x 32, then nothing is scaled and the left 32 of 33 columns remain."""
    image = picture(67, 65)
    expected = image.resize((33, 32), Image.Resampling.BOX).crop((0, 0, 32, 32))
    np.testing.assert_array_equal(to_pixels(adm_crop(image, 32)), to_pixels(expected))


@given(sizes, sizes, resolutions)
def test_any_size_gives_the_resolution(width, height, resolution):
    assert adm_crop(picture(width, height), resolution).size == (resolution, resolution)
    assert random_crop(picture(width, height), resolution, np.random.default_rng(0)).size == (resolution, resolution)


@given(sizes, sizes, resolutions, st.tuples(*[st.integers(0, 255)] * 3))
def test_one_colour_stays_that_colour(width, height, resolution, colour):
    cropped = to_pixels(adm_crop(Image.new("RGB", (width, height), colour), resolution))
    assert (cropped == np.reshape(colour, (3, 1, 1))).all()


@given(resolutions, st.integers(0, 5))
def test_square_of_the_resolution_is_left_alone(resolution, seed):
    image = picture(resolution, resolution, seed)
    np.testing.assert_array_equal(to_pixels(adm_crop(image, resolution)), to_pixels(image))


@given(st.integers(16, 31), st.integers(0, 60), st.integers(0, 5))
def test_image_between_one_and_two_resolutions_high_keeps_its_centre(resolution, extra, seed):
    image = picture(resolution + extra, resolution, seed)
    if resolution + extra < 2 * resolution:
        left = extra // 2
        expected = image.crop((left, 0, left + resolution, resolution))
        np.testing.assert_array_equal(to_pixels(adm_crop(image, resolution)), to_pixels(expected))


@given(st.integers(32, 90), st.integers(32, 90), st.integers(0, 1000))
def test_random_crop_is_a_part_of_the_image(width, height, seed):
    image = picture(width, height)
    cropped = to_pixels(random_crop(image, 32, np.random.default_rng(seed)))
    windows = np.lib.stride_tricks.sliding_window_view(to_pixels(image), (3, 32, 32))[0]
    assert (windows == cropped).all(axis=(2, 3, 4)).any()


@pytest.mark.parametrize("size", [(3, 290), (290, 3), (11, 500), (500, 11), (31, 999), (40, 990)])
def test_a_long_image_is_cropped_as_if_the_whole_were_scaled(monkeypatch, size):
    image = picture(*size)
    crops = [to_pixels(adm_crop(image, 32)), to_pixels(random_crop(image, 32, np.random.default_rng(1)))]
    monkeypatch.setattr("dcae.data.crop.LONG", 1000)
    whole = [to_pixels(adm_crop(image, 32)), to_pixels(random_crop(image, 32, np.random.default_rng(1)))]
    for found, expected in zip(crops, whole, strict=True):
        difference = abs(found.astype(int) - expected)
        assert difference.max() <= 8 and difference.mean() < 0.4, "rounded between rows and columns"


@pytest.mark.parametrize("size", [(1, 8000), (8000, 1), (20, 2000)])
def test_a_crop_makes_no_picture_much_larger_than_its_result(monkeypatch, size):
    made = []
    resize = Image.Image.resize

    def recorded(image, size, *arguments, **options):
        made.append(size[0] * size[1])
        return resize(image, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    adm_crop(Image.new("RGB", size), 256)
    random_crop(Image.new("RGB", size), 256, np.random.default_rng(0))
    assert max(made) <= 20 * 256**2


def test_random_crops_reach_every_corner():
    image = Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 3)).convert("RGB")
    seen = {random_crop(image, 2, np.random.default_rng(seed)).getpixel((0, 0))[0] for seed in range(60)}
    assert seen == {0, 1, 3, 4}
