# SPDX-License-Identifier: Apache-2.0
"""Weight decay, warm-up and moving averages."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcae.benchmark.entries import EMA, AdamW
from dcae.training.optimisers import MovingAverage, Updater, parameter_groups


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_norms_and_biases_are_spared_from_weight_decay(network):
    decayed, spared = parameter_groups(list(network.parameters()), 0.1, decay_norms_and_biases=False)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {id(parameter) for parameter in decayed["params"]} == {id(network[0].weight), id(network[2].weight)}
    assert len(spared["params"]) == 4
    (everything,) = parameter_groups(list(network.parameters()), 0.1, decay_norms_and_biases=True)
    assert len(everything["params"]) == 6


def test_frozen_parameters_are_in_no_group(network):
    network[0].requires_grad_(False)
    updater = Updater(network, AdamW(learning_rate=0.1), None, Accelerator(cpu=True))
    assert sum(len(group["params"]) for group in updater.optimisers["adamw"].param_groups) == 4


@settings(deadline=None)  # the first optimiser of a process imports a lot
@given(step=st.integers(0, 100), warmup=st.integers(0, 50))
def test_warm_up_is_linear_and_then_constant(step, warmup):
    optimiser = AdamW(learning_rate=2.0, warmup_steps=warmup)
    rate = Updater(nn.Linear(1, 1), optimiser, None, Accelerator(cpu=True)).learning_rate(step)
    assert rate == pytest.approx(2.0 * min(1, (step + 1) / warmup) if warmup else 2.0)


def test_a_half_cosine_ends_at_zero():
    updater = Updater(
        nn.Linear(1, 1), AdamW(learning_rate=2.0, warmup_steps=2, cosine_steps=8), None, Accelerator(cpu=True)
    )
    assert [updater.learning_rate(step) for step in (0, 4, 8, 9)] == pytest.approx([1.0, 1.0, 0.0, 0.0])


def test_updates_equal_those_of_torch_with_its_own_scheduler_and_clipping(network):
    # A bias before a norm has no gradient but rounding errors, which AdamW blows up.
    network[0] = nn.Conv2d(3, 4, 3, bias=False)
    reference = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2))
    reference.load_state_dict(network.state_dict())
    options = AdamW(learning_rate=0.01, betas=(0.5, 0.9), weight_decay=0.1, decay_norms_and_biases=True, warmup_steps=3)
    updater = Updater(network, options, gradient_clip=0.1, accelerator=Accelerator(cpu=True))
    optimiser = torch.optim.AdamW(reference.parameters(), lr=0.01, betas=(0.5, 0.9), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1 / 3, total_iters=2)
    for step in range(6):
        images = torch.randn(8, 3, 3, 3)
        updater.update(step, [images], lambda part: network[2](network[:2](part).flatten(1).relu()).exp().mean())
        optimiser.zero_grad()
        reference[2](reference[:2](images).flatten(1).relu()).exp().mean().backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        optimiser.step()
        schedule.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # fused and plain AdamW round differently


def test_the_average_follows_its_definition():
    module = nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, EMA(decay=0.9, ramp_steps=5))
    expected = None
    for step in range(8):
        module.weight.data.fill_(float(step))
        average.update(module, step)
        decay = 0.9 * (1 - math.exp(-(step + 1) / 5))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert MovingAverage(module, EMA(decay=0.9)).decay(0) == 0.9


def test_the_average_is_that_of_torch_whose_checkpoints_it_reads(network):
    average = MovingAverage(network, EMA(decay=0.9))
    by_torch = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for step in range(3):
        network[:2](torch.randn(2, 3, 4, 4))
        for parameter in network.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        average.update(network, step)
        by_torch.update_parameters(network)
    expected = by_torch.module.state_dict()
    torch.testing.assert_close(average.module.state_dict(), expected)
    again = MovingAverage(network, EMA(decay=0.9))
    again.load_state_dict(by_torch.state_dict())
    torch.testing.assert_close(again.module.state_dict(), expected, rtol=0, atol=0)
    again.load_state_dict(average.state_dict())


def test_the_average_takes_the_statistics_of_batchnorm_as_they_are():
    module = nn.BatchNorm1d(2)
    average = MovingAverage(module, EMA(decay=0.9))
    for step in range(3):
        module(torch.randn(4, 2) + 5)
        average.update(module, step)
    assert torch.equal(average.module.running_mean, module.running_mean)
    assert average.module.num_batches_tracked == 3
