# SPDX-License-Identifier: Apache-2.0
"""Muon: orthogonalised steps for kernels and matrices."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from dcae.benchmark.entries import AdamW
from dcae.training.muon import COEFFICIENTS, ITERATIONS, Muon, as_kernel, as_matrix, is_matrix, orthogonalised
from dcae.training.optimisers import Updater


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (12, 12)])
def test_singular_values_become_about_one_and_singular_vectors_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    aligned = u.T @ orthogonalised(matrix) @ v.T  # diagonal, if the singular vectors are kept
    values = aligned.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.25  # the quintic is not exact on purpose
    torch.testing.assert_close(aligned, torch.diag(values), atol=1e-4, rtol=0)  # fp32, ten products


@pytest.mark.parametrize("shape", [(8, 200), (200, 8), (12, 12)])
def test_the_iterations_are_those_of_muon(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -3, shape[1]))  # as uneven as gradients
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(ITERATIONS):
        squared = x @ x.T
        x = a * x + (b * squared + c * squared @ squared) @ x
    # Rounding in fp32 grows a^5 = 500 times at most on the way.
    torch.testing.assert_close(orthogonalised(matrix).double(), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(4, 6, 3, 3), (6, 4, 3, 3), (5, 7)])
def test_a_kernel_is_a_matrix_and_back(shape):
    kernel = torch.randn(shape)
    matrix = as_matrix(kernel)
    assert min(matrix.shape) == min(shape[:2])
    assert torch.equal(as_kernel(matrix, kernel.shape), kernel)


def test_images_depth_wise_kernels_norms_and_biases_stay_with_adamw():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3))
    assert [is_matrix(parameter) for parameter in network.parameters()] == [*[False] * 6, True, False]
    settings = AdamW(learning_rate=0.1, muon_learning_rate=0.02, muon_momentum=0.8)
    updater = Updater(network, settings, None, Accelerator(cpu=True))
    (group,) = updater.optimisers["muon"].param_groups
    assert group["momentum"] == 0.8
    assert [id(each) for each in group["params"]] == [id(network[3].weight)]


@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_the_update_is_that_of_torch_to_its_bfloat16(momentum):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(24, 8, bias=False), nn.Linear(24, 8, bias=False)
    theirs.load_state_dict(ours.state_dict())
    optimisers = (
        Muon(ours.parameters(), 0.02, 0.1, momentum),
        torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, momentum=momentum),
    )
    for _ in range(5):
        inputs = torch.randn(16, 24)
        for module, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            module(inputs).square().mean().backward()
            optimiser.step()
    # Five steps of 0.02 in bfloat16, whose numbers are 2^-8 apart at 1, through five iterations.
    torch.testing.assert_close(ours.weight, theirs.weight, atol=5e-3, rtol=0)


def test_a_restored_updater_goes_on_exactly():
    torch.manual_seed(0)
    settings = AdamW(learning_rate=0.01, muon_learning_rate=0.02)
    first, second = (nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)) for _ in "ab")
    updaters = [Updater(module, settings, 1.0, Accelerator(cpu=True)) for module in (first, second)]
    inputs = torch.randn(6, 5, 4)

    def step(number: int, module: nn.Module, updater: Updater) -> None:
        updater.update(number, [inputs[number]], lambda part: (module(part) - part).square().mean())

    for number in range(3):
        step(number, first, updaters[0])
    second.load_state_dict(first.state_dict())
    updaters[1].load_state_dict(copy.deepcopy(updaters[0].state_dict()))
    for number in range(3, 6):
        step(number, first, updaters[0])
        step(number, second, updaters[1])
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_without_momentum_goes_on_with_the_default():
    matrix = nn.Parameter(torch.randn(4, 6))
    matrix.grad = torch.randn(4, 6)
    optimiser = Muon([matrix], 0.02, 0.1, momentum=0.5)
    optimiser.step()
    state = optimiser.state_dict()
    del state["param_groups"][0]["momentum"]
    optimiser.load_state_dict(state)
    optimiser.step()
    assert optimiser.param_groups[0]["momentum"] == 0.95
