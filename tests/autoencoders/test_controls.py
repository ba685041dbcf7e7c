# SPDX-License-Identifier: Apache-2.0
"""Controls score what they must."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.autoencoders.controls import blur, identity, mean_colour
from dcae.autoencoders.loading import load


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_identity_is_exact_at_any_size(f, rows, columns):
    images = torch.rand(1, 3, f * rows, f * columns) * 2 - 1
    assert torch.equal(identity(f)(images), images)


def test_blur_keeps_plain_colours_and_loses_detail():
    plain = torch.tensor([0.3, -0.5, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(blur(8)(plain), plain)
    stripes = torch.ones(1, 3, 16, 16)
    stripes[..., ::2] = -1
    torch.testing.assert_close(blur(8)(stripes), torch.zeros_like(stripes))


def test_mean_colour_is_the_best_plain_image():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    reconstructions = mean_colour(8)(images)
    assert torch.equal(reconstructions, reconstructions[:, :, :1, :1].expand_as(images))
    error = (reconstructions - images).square().mean()
    for shift in (-0.01, 0.01):
        assert (reconstructions + shift - images).square().mean() > error


def test_order_of_errors():
    images = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=64, mode="bicubic") * 2 - 1
    errors = [(load(name)(images) - images).abs().mean().item() for name in ("identity", "blur", "mean-colour")]
    assert errors[0] == 0 < errors[1] < errors[2]
