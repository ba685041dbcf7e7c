# SPDX-License-Identifier: Apache-2.0
"""Shortcuts, attention and norm of DC-AE against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.autoencoders.dc_ae_blocks import (
    LiteMLA,
    RMSNorm2d,
    average_channels,
    channel_to_space,
    down_shortcut,
    duplicate_channels,
    fused_rms_norm,
    make_block,
    relu_attention,
    space_to_channel,
    up_shortcut,
    zero_init_residual,
)

PAIRS = ["released-code", "paper-text"]


@pytest.mark.parametrize("shortcut", PAIRS)
@pytest.mark.parametrize(("wide", "narrow"), [(16, 16), (32, 16)])
def test_down_after_up_is_the_identity_within_a_pair(shortcut, wide, narrow):
    x = torch.randn(2, wide, 4, 4)
    torch.testing.assert_close(down_shortcut(up_shortcut(x, narrow, shortcut), wide, shortcut), x)


@pytest.mark.parametrize(("up", "down"), [PAIRS, PAIRS[::-1]])
def test_down_after_up_is_not_the_identity_across_pairs(up, down):
    x = torch.randn(2, 32, 4, 4)
    assert not torch.allclose(down_shortcut(up_shortcut(x, 16, up), 32, down), x, atol=0.1)


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from(PAIRS))
@settings(max_examples=20, deadline=None)
def test_averaging_undoes_duplicating(channels, repeats, shortcut):
    x = torch.randn(1, channels, 2, 3)
    torch.testing.assert_close(
        average_channels(duplicate_channels(x, channels * repeats, shortcut), channels, shortcut), x
    )


def test_shortcuts_of_equal_width_are_average_pooling_and_nearest_neighbour_in_the_released_code():
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(down_shortcut(x, 8, "released-code"), F.avg_pool2d(x, 2))
    torch.testing.assert_close(up_shortcut(x, 8, "released-code"), F.interpolate(x, scale_factor=2, mode="nearest"))


def test_channels_and_pixels_change_places_as_in_torch():
    x = torch.randn(2, 8, 6, 10)
    assert torch.equal(space_to_channel(x), F.pixel_unshuffle(x, 2))
    assert torch.equal(channel_to_space(x), F.pixel_shuffle(x, 2))


@pytest.mark.parametrize("shortcut", PAIRS)
def test_shortcuts_keep_channels_last(shortcut):
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    for moved in (
        down_shortcut(x, 32, shortcut), up_shortcut(x, 8, shortcut),
        average_channels(x, 4, shortcut), duplicate_channels(x, 32, shortcut),
    ):  # fmt: skip
        assert moved.is_contiguous(memory_format=torch.channels_last)


def softmaxless_attention(q, k, v):
    """The definition, in fp64: each query's values weighted by relu(q) . relu(k), normalised to sum one."""
    q, k, v = (t.double().transpose(-1, -2) for t in (q.relu(), k.relu(), v))
    scores = q @ k.transpose(-1, -2)
    return (scores / scores.sum(-1, keepdim=True) @ v).transpose(-1, -2)


@pytest.mark.parametrize("positions", [4, 8, 9, 64])  # d = 8: the first two take the quadratic form
def test_both_forms_of_attention_follow_the_definition(positions):
    q, k, v = torch.randn(3, 2, 3, 8, positions)
    q, k = q + 1, k + 1  # so that no query meets only zeros, where the definition divides by zero
    # fp32 sums of up to 64 positive terms of size 1: about 1e-5.
    torch.testing.assert_close(relu_attention(q, k, v).double(), softmaxless_attention(q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", [4, 64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_survives_half_precision(positions, dtype):
    large = torch.full((1, 1, 8, positions), 200.0, dtype=dtype)  # its sums exceed fp16's 65,504
    torch.testing.assert_close(relu_attention(large, large, large), large.float())
    zero = torch.zeros(1, 1, 8, positions, dtype=dtype)  # eps must not round to zero
    torch.testing.assert_close(relu_attention(zero, zero, large), zero.float())


@pytest.mark.parametrize("positions", [4, 64])
def test_autocast_leaves_the_normalisation_in_fp32(positions):
    q, k, v = torch.randn(3, 1, 2, 8, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = relu_attention(q, k, v)
    torch.testing.assert_close(inside, relu_attention(q, k, v), rtol=0, atol=0)


def test_attention_layer_has_finite_gradients_where_no_key_answers():
    layer = LiteMLA(16, "RMSNorm", 8, [])
    torch.nn.init.constant_(layer.to_k.weight, 0.0)
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_rms_norm_is_that_of_torch_over_the_channels():
    norm = RMSNorm2d(12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 12, 5, 5)
    expected = F.rms_norm(x.movedim(1, -1), (12,), norm.weight, norm.eps).movedim(-1, 1) + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    assert norm.half()(x.half()).dtype == torch.float16


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_of_the_norm_are_those_of_its_definition(fused):
    norm, x, factors = RMSNorm2d(12).double(), *torch.randn(2, 2, 12, 5, 5, dtype=torch.float64)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    of_definition, of_layer = x.clone().requires_grad_(), x.clone().requires_grad_()
    normed = of_definition * torch.rsqrt(of_definition.square().mean(1, keepdim=True) + norm.eps)
    plain = normed * norm.weight[:, None, None] + norm.bias[:, None, None]
    if fused:
        found = fused_rms_norm(of_layer.movedim(1, -1), norm.weight, norm.bias, norm.eps).movedim(-1, 1)
    else:
        found = norm(of_layer)
    torch.testing.assert_close(found, plain)
    expected = torch.autograd.grad((plain * factors).sum(), [of_definition, *norm.parameters()])
    gradients = torch.autograd.grad((found * factors).sum(), [of_layer, *norm.parameters()])
    torch.testing.assert_close(gradients, expected)


def test_head_dim_must_divide_the_width():
    with pytest.raises(ValueError, match="head_dim"):
        LiteMLA(20, "RMSNorm", 8, [])


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("ResBlock", "RMSNorm"),
        ("ResBlock", "BatchNorm"),
        ("EfficientViTBlock", "RMSNorm"),
        ("TransformerBlock", "RMSNorm"),
    ],
)
def test_a_block_that_begins_as_the_identity_learns_to_be_another(kind, norm):
    torch.manual_seed(0)
    block = make_block(kind, 16, norm, head_dim=8, kernel_sizes=[5] if kind == "EfficientViTBlock" else [])
    x = torch.randn(2, 16, 4, 4)
    assert not torch.equal(block(x), x)
    zero_init_residual(block)
    assert torch.equal(block(x), x)
    optimiser = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):  # what ends the branches moves in the first step, what comes before from the second on
        before = {name: value.clone() for name, value in block.named_parameters()}
        optimiser.zero_grad()
        (block(x) - torch.randn_like(x)).square().sum().backward()
        optimiser.step()
    moved = {name for name, value in block.named_parameters() if not torch.equal(value, before[name])}
    assert moved >= {name for name in before if name.endswith("weight")}
