# SPDX-License-Identifier: Apache-2.0
"""From the range of networks to 8-bit values: rounding, truncating, and nothing that wraps around."""

from __future__ import annotations

import pytest
import torch

from evaluation.features.quantisation import to_network, to_uint8


def test_every_grey_level_survives_the_way_through_an_autoencoder():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    assert to_network(levels).min() == -1
    assert to_network(levels).max() == 1
    assert torch.equal(to_uint8(to_network(levels)), levels)


@pytest.mark.parametrize(
    ("level", "stored"), [(-100.0, 0), (-0.4, 0), (10.3, 10), (10.7, 11), (127.5, 128), (255.4, 255), (400.0, 255)]
)
def test_values_go_to_the_nearest_grey_level_and_are_clamped(level, stored):
    image = torch.full((1, 3, 1, 1), level / 127.5 - 1)
    released_code = (255 * (image * 0.5 + 0.5) + 0.5).clamp(0, 255).to(torch.uint8)  # efficientvit, aecore/evaluator.py
    assert to_uint8(image).unique().tolist() == released_code.unique().tolist() == [stored]


def test_truncation_is_what_adm_and_ldm_do():
    """Both store ((x + 1) 127.5) clamped and cut off, darker by 0.5 on average than the nearest value."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    expected = ((images + 1) * 127.5).clamp(0, 255).to(torch.uint8)
    truncated, rounded = to_uint8(images, "truncate"), to_uint8(images)
    assert (truncated.int() - expected.int()).abs().max() <= 1  # another order of float32 operations
    assert (truncated != expected).double().mean() < 1e-3
    inside = images.abs() < 0.99
    assert (rounded.float() - truncated.float())[inside].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("quantisation", ["round", "truncate"])
def test_nothing_wraps_around(quantisation):
    """The trap of ``(images * 255).byte()``: 1.005 becomes black and -0.01 nearly white."""
    images = torch.tensor([-1.02, -1.0, 1.0, 1.01, 5.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_uint8(images, quantisation)[0, 0, 0].tolist() == [0, 0, 255, 255, 255]
    trap = ((images / 2 + 0.5) * 255).to(torch.int64).to(torch.uint8)[0, 0, 0].tolist()
    assert trap[0] > 250 and trap[3] < 5
