# SPDX-License-Identifier: Apache-2.0
"""The convolution layer against torch's own: results, gradients, and what is kept for a backward pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dcae.autoencoders import cpu_convolution
from dcae.autoencoders.convolution import Conv2d
from dcae.autoencoders.cpu_convolution import (
    F23,
    F43,
    gradient_of_weight_as_product,
    minimal_filtering,
    minimal_gradient_of_weight,
)
from evaluation.efficiency.cost import bytes_kept_for_backward
from tests.autoencoders.small import Operators

TRANSFORMS = {"F(2, 3)": F23, "F(4, 3)": F43}


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(sorted(TRANSFORMS)), batch=st.integers(1, 3), rows=st.integers(1, 6),
    columns=st.integers(1, 6), channels=st.integers(1, 5), out_channels=st.integers(1, 5),
    with_bias=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_minimal_filtering_is_convolution(name, batch, rows, columns, channels, out_channels, with_bias, seed):
    step = len(TRANSFORMS[name].outputs)
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, rows * step, columns * step, generator=random, dtype=torch.float64)
    weight = torch.randn(out_channels, channels, 3, 3, generator=random, dtype=torch.float64)
    bias = torch.randn(out_channels, generator=random, dtype=torch.float64) if with_bias else None
    expected = nn.functional.conv2d(x, weight, bias, padding=1)
    # float64: both are the same polynomial of the inputs, so nothing but rounding may differ
    torch.testing.assert_close(minimal_filtering(x, weight, bias, TRANSFORMS[name]), expected, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(sorted(TRANSFORMS)), batch=st.integers(1, 3), rows=st.integers(1, 6),
    columns=st.integers(1, 6), channels=st.integers(1, 5), out_channels=st.integers(1, 5), seed=st.integers(0, 9),
)  # fmt: skip
def test_minimal_gradient_is_that_of_convolution(name, batch, rows, columns, channels, out_channels, seed):
    step = len(TRANSFORMS[name].outputs)
    random = torch.Generator().manual_seed(seed)
    shape = rows * step, columns * step
    x = torch.randn(batch, channels, *shape, generator=random, dtype=torch.float64)
    gradient = torch.randn(batch, out_channels, *shape, generator=random, dtype=torch.float64)
    expected = nn.grad.conv2d_weight(x, (out_channels, channels, 3, 3), gradient, padding=1)
    # float64: both are the same polynomial of the inputs, so nothing but rounding may differ
    found = minimal_gradient_of_weight(x, gradient, TRANSFORMS[name])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_minimal_gradient_in_pieces(monkeypatch):
    random = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(2, 3, 20, 8, generator=random, dtype=torch.float64) for _ in range(2))
    whole = minimal_gradient_of_weight(x, gradient, F43)
    monkeypatch.setattr(cpu_convolution, "TILES_OF_GRADIENT_AT_A_TIME", 4)  # two rows of two tiles, and one row is left
    torch.testing.assert_close(minimal_gradient_of_weight(x, gradient, F43), whole)


@settings(deadline=None, max_examples=30)
@given(
    kernel_size=st.sampled_from([1, 3, 5]), batch=st.integers(1, 3), height=st.integers(1, 6), width=st.integers(1, 6),
    channels=st.integers(1, 5), out_channels=st.integers(1, 5), seed=st.integers(0, 9),
)  # fmt: skip
def test_gradient_as_product_is_that_of_convolution(kernel_size, batch, height, width, channels, out_channels, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=random, dtype=torch.float64)
    gradient = torch.randn(batch, out_channels, height, width, generator=random, dtype=torch.float64)
    shape = (out_channels, channels, kernel_size, kernel_size)
    expected = nn.grad.conv2d_weight(x, shape, gradient, padding=kernel_size // 2)
    # float64: the same products, summed up in another order
    torch.testing.assert_close(
        gradient_of_weight_as_product(x, gradient, kernel_size), expected, rtol=1e-10, atol=1e-10
    )


# Measured 3e-6 (torch: 4e-7) and, with 16 bits in every step, 5e-3 (torch: 2e-3); another transform has ten times more.
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 6e-6), (torch.bfloat16, 1e-2)])
def test_rounding_errors_of_gradients(dtype, largest):
    random = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(2, 256, 32, 32, generator=random).to(dtype) for _ in range(2))
    exact = nn.grad.conv2d_weight(x.double(), (256, 256, 3, 3), gradient.double(), padding=1)
    ours = minimal_gradient_of_weight(x, gradient, cpu_convolution.TRANSFORMS[dtype])
    assert (ours - exact).norm() < largest * exact.norm()


# The relative errors named at the head of the module are 2e-6 and 4e-3; another transform has ten times as much.
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 4e-6), (torch.bfloat16, 8e-3)])
def test_rounding_errors(dtype, largest):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 256, 32, 32, generator=random).to(dtype)
    weight = (torch.randn(256, 256, 3, 3, generator=random) / 48).to(dtype)
    exact = nn.functional.conv2d(x.double(), weight.double(), padding=1)
    ours = minimal_filtering(x, weight, None, cpu_convolution.TRANSFORMS[dtype])
    assert (ours - exact).norm() < largest * exact.norm()


@pytest.fixture
def everything_is_wide(monkeypatch):
    """Let small layers take the way of wide ones."""
    monkeypatch.setattr(cpu_convolution, "SMALLEST_WIDTH", 1)
    monkeypatch.setattr(cpu_convolution, "SMALLEST_MAP", 1)


LAYERS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "3x3, no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "1x1": {"kernel_size": 1},
    "depth-wise": {"kernel_size": 3, "padding": 1, "groups": 8},
}


@pytest.fixture(params=["minimal filtering", "product", "torch"])
def way(request, monkeypatch):
    """Let small layers take the way of wide ones, or of small maps of many channels."""
    if request.param == "minimal filtering":
        request.getfixturevalue("everything_is_wide")
    elif request.param == "product":
        monkeypatch.setattr(cpu_convolution, "SMALLEST_WEIGHT", 1)
        monkeypatch.setattr(cpu_convolution, "MOST_POSITIONS_PER_CHANNEL", 100)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_results_and_gradients_are_those_of_torch(way, layer, frozen):
    torch.manual_seed(0)
    ours = Conv2d(8, 8, **LAYERS[layer]).requires_grad_(not frozen)
    theirs = nn.Conv2d(8, 8, **LAYERS[layer]).requires_grad_(not frozen)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 8, 12, 16)
    results = []
    for module in (ours, theirs):
        x = images.clone().requires_grad_()
        out = module(x)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(parameter.grad for parameter in module.parameters())])
    for mine, expected in zip(*results, strict=True):
        if expected is None:
            assert mine is None
        else:  # sums of up to 400 products in another order
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_frozen_layer_keeps_no_input(layer):
    x = torch.randn(1, 8, 12, 16, requires_grad=True)
    theirs = nn.Conv2d(8, 8, **LAYERS[layer]).requires_grad_(False)
    ours = Conv2d(8, 8, **LAYERS[layer]).requires_grad_(False)
    assert (
        bytes_kept_for_backward(lambda: theirs(x)) == x.numel() * 4
    )  # should torch stop to keep it, the layer has no purpose
    assert bytes_kept_for_backward(lambda: ours(x)) == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_a_frozen_layer_keeps_the_layout_of_gradients(layer):
    """``convolution_backward`` would take it from an input that is not kept."""
    frozen = Conv2d(8, 8, **LAYERS[layer]).to(memory_format=torch.channels_last).requires_grad_(False)
    x = torch.randn(2, 8, 12, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = frozen(x)
    with Operators() as operators:
        out.backward(torch.ones_like(out))
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.ops.aten.convolution_backward not in operators.called


def test_autocast_computes_in_its_type_and_gives_gradients_in_the_weights_type(everything_is_wide):
    layer = Conv2d(8, 8, 3, padding=1)
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert {x.grad.dtype, layer.weight.grad.dtype, layer.bias.grad.dtype} == {torch.float32}
    expected = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    assert (out - expected).norm() < 1e-2 * expected.norm()  # bf16 has 8 bits


@pytest.mark.parametrize(
    ("channels", "size", "kernel_size"),
    [(8, 64, 3), (256, 8, 3), (256, 66, 3), (256, 64, 3), (1024, 8, 1), (1024, 32, 1)],
    ids=["narrow", "small map", "odd size", "wide", "many channels", "many positions"],
)
def test_layers_on_both_sides_of_the_thresholds_give_torchs_results(channels, size, kernel_size):
    torch.manual_seed(0)
    ours = Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
    images = torch.randn(1, channels, size, size)
    factors = torch.randn(1, channels, size, size)
    expected = nn.functional.conv2d(images, ours.weight, ours.bias, padding=kernel_size // 2)
    (expected * factors).sum().backward()
    weight_gradient = ours.weight.grad
    ours.weight.grad = ours.bias.grad = None
    out = ours(images)
    (out * factors).sum().backward()
    assert (out - expected).norm() < 1e-5 * expected.norm()
    assert (ours.weight.grad - weight_gradient).norm() < 1e-5 * weight_gradient.norm()
