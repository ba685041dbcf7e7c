# SPDX-License-Identifier: Apache-2.0
"""How many images are encoded or decoded together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcae.autoencoders.memory import PIXELS_AT_ONCE, images_at_once


@pytest.mark.parametrize(("resolution", "images"), [(64, 32), (256, 32), (512, 16), (1024, 4), (2048, 1), (4096, 1)])
def test_the_more_pixels_the_fewer_images(resolution, images):
    assert images_at_once(resolution, at_most=32) == images


@given(st.integers(1, 8192), st.integers(1, 256))
def test_there_is_always_one_and_never_more_than_asked_for(resolution, at_most):
    images = images_at_once(resolution, at_most)
    assert 1 <= images <= at_most
    assert images == 1 or images * resolution**2 <= PIXELS_AT_ONCE
