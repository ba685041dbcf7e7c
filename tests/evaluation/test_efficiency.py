# SPDX-License-Identifier: Apache-2.0
"""Counts against published parameters and GMACs; timing and memory on a tiny model."""

import math

import pytest
import torch
from torch import nn

import evaluation.efficiency
from dcae.benchmark.entries import DiffusionEntry, EfficiencyProtocol
from dcae.diffusion import build_denoiser
from evaluation.cost import count_macs, count_parameters, count_parameters_used
from evaluation.efficiency import LiveTensors, median_time, profile_denoiser

PROTOCOL = EfficiencyProtocol(
    name="test",
    kind="efficiency",
    precision="fp32",
    training_batch_size=2,
    inference_batch_size=4,
    memory_batch_size=4,
    warmup_steps=1,
    seconds=0.02,
)


def model(kind: str, depth: int, width: int, heads: int) -> DiffusionEntry:
    sampler = {"recipe": "none", "sampler": "dpm-solver++", "sampling_steps": 30, "guidance_scale": 1.5}
    return DiffusionEntry(name="model", kind=kind, depth=depth, width=width, heads=heads, **sampler)


TINY = model("u-vit", 2, 32, 2)
UVIT_S, UVIT_H = model("u-vit", 12, 512, 8), model("u-vit", 28, 1152, 16)
UVIT_2B = model("u-vit", 28, 2048, 32)
DIT_S, DIT_XL = model("dit", 12, 384, 6), model("dit", 28, 1152, 16)


# The official README's counts of the rows of Table 3 (512 px, 1000 classes), and Table 4's (1024 px, unconditional).
@pytest.mark.parametrize(
    ("entry", "channels", "size", "patch_size", "classes", "millions", "gmacs"),
    [
        (UVIT_S, 4, 64, 2, 1000, 45.166, 59.22),
        (UVIT_S, 32, 16, 1, 1000, 44.789, 12.26),
        (UVIT_S, 128, 8, 1, 1000, 44.789, 2.97),
        (UVIT_H, 32, 16, 1, 1000, 500.869, 133.2),
        (UVIT_H, 128, 8, 1, 1000, 500.869, 33.24),
        (UVIT_2B, 128, 8, 1, 1000, 1580.397, 104.6),
        (DIT_XL, 4, 64, 2, 1000, 674.835, 524.5),
        (DIT_XL, 32, 16, 1, 1000, 674.890, 118.6),
        (DIT_S, 128, 16, 1, 0, 32.610, 6.09),
        (DIT_S, 4, 128, 2, 0, 32.481, 241.7),
    ],
)
def test_parameters_and_macs_of_published_pairings(entry, channels, size, patch_size, classes, millions, gmacs):
    with torch.device("meta"):
        denoiser = build_denoiser(entry, channels, size, patch_size, classes)
        inputs = torch.empty(1, channels, size, size), torch.empty(1), torch.zeros(1, dtype=torch.long)
    assert count_parameters(denoiser) / 1e6 == pytest.approx(millions, abs=0.0006)
    assert count_macs(denoiser, *inputs) / 1e9 == pytest.approx(gmacs, rel=0.002)  # published to 3 or 4 digits


def test_macs_of_layers_by_hand():
    with torch.device("meta"):
        linear, convolution = nn.Linear(10, 20), nn.Conv2d(4, 8, 3, padding=1, groups=2)
        query = torch.empty(2, 3, 16, 8)  # two samples, three heads, 16 tokens
    assert count_macs(linear, torch.empty(5, 10, device="meta")) == 5 * 10 * 20
    assert count_macs(convolution, torch.empty(1, 4, 6, 6, device="meta")) == 36 * 8 * 2 * 9
    attention = nn.functional.scaled_dot_product_attention
    assert count_macs(attention, query, query, query) == 2 * (2 * 3 * 16 * 16 * 8)


def test_macs_are_refused_where_attention_would_count_as_nothing():
    with pytest.raises(ValueError, match="meta device"):
        count_macs(nn.Linear(2, 2), torch.zeros(1, 2))


def test_parameters_used_by_a_method():
    network = nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Linear(3, 4)})
    assert count_parameters_used(network, network["first"], torch.zeros(1, 2)) == 9
    assert count_parameters(network) == 9 + 16


# --- timing ---------------------------------------------------------------------------------------------------------


def test_time_is_a_median_after_warm_up(monkeypatch):
    now = 0.0
    durations = iter([5.0, 0.1, 0.1, 2.0, 0.1, 0.2, 0.1, 0.1])  # a slow start, and later an outlier

    def step() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(evaluation.efficiency.time, "perf_counter", lambda: now)
    duration = median_time(step, PROTOCOL.model_copy(update={"seconds": 2.55}), torch.device("cpu"))
    assert duration.value == pytest.approx(0.1)
    assert duration.n == 6  # after five of them 2.5 seconds have passed, so a sixth begins
    quartiles = torch.tensor([0.1, 0.1, 2.0, 0.1, 0.2, 0.1]).quantile(torch.tensor([0.25, 0.75]))
    spread = float(quartiles[1] - quartiles[0]) / 1.349
    assert duration.standard_error == pytest.approx((math.pi / 2 / 6) ** 0.5 * spread, rel=1e-5)


def test_a_slow_step_is_timed_three_times_whatever_the_limit(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(evaluation.efficiency.time, "perf_counter", lambda: next(clock))
    assert median_time(lambda: None, PROTOCOL.model_copy(update={"seconds": 0.1}), torch.device("cpu")).n == 3


def test_profile_of_a_tiny_model():
    values = profile_denoiser(TINY, latent_channels=4, latent_size=8, patch_size=2, protocol=PROTOCOL, classes=10)
    assert {name: value.unit for name, value in values.items()} == {
        "parameters": "",
        "gmacs": "GMAC",
        "peak_memory_gb": "GB",
        "peak_memory_gib": "GiB",
        "training_images_per_second": "images/s",
        "inference_images_per_second": "images/s",
        "latency_ms": "ms",
    }
    assert all(value.value > 0 for value in values.values())
    assert values["parameters"].value == count_parameters(build_denoiser(TINY, 4, 8, 2, 10))
    assert values["peak_memory_gb"].value / values["peak_memory_gib"].value == pytest.approx(1024**3 / 1e9)
    assert values["latency_ms"].n >= 3
    assert not any(value.random_features for value in values.values())


def test_fewer_tokens_are_cheaper():
    few, many = (
        profile_denoiser(model("dit", 2, 64, 2), 4, 32, patch_size, PROTOCOL, classes=10) for patch_size in (8, 1)
    )
    assert few["gmacs"].value < many["gmacs"].value / 30
    assert few["peak_memory_gb"].value < many["peak_memory_gb"].value / 4
    assert few["training_images_per_second"].value > many["training_images_per_second"].value
    assert few["latency_ms"].value < many["latency_ms"].value


@pytest.mark.parametrize("kind", ["u-vit", "dit"])
def test_reduced_precision_and_checkpointing_run(kind):
    options = {"precision": "bf16", "activation_checkpointing": True}
    values = profile_denoiser(model(kind, 2, 32, 2), 4, 8, 2, PROTOCOL.model_copy(update=options), classes=10)
    assert values["inference_images_per_second"].value > 0


# --- memory ---------------------------------------------------------------------------------------------------------


def test_memory_is_that_of_tensors_alive_at_once():
    kilobyte = 256  # float32 values
    with LiveTensors() as tensors:
        a = torch.zeros(4 * kilobyte)
        b = a + 1
        c = b.view(2, -1)
        b.add_(1)
        assert tensors.bytes == 8 * 1024  # neither the view nor the operator in place is new
        del b
        assert tensors.bytes == 8 * 1024  # the view keeps it
        del c
        assert tensors.bytes == 4 * 1024
        d = torch.zeros(kilobyte)
        del a, d
    assert tensors.bytes == 0
    assert tensors.peak == 8 * 1024


def test_memory_of_a_training_is_weights_gradients_optimiser_and_activations():
    def peak(batch_size: int) -> int:
        with LiveTensors() as tensors:
            layers = nn.Sequential(nn.Linear(256, 256, bias=False), nn.ReLU(), nn.Linear(256, 256, bias=False))
            optimiser = torch.optim.AdamW(layers.parameters(), foreach=False)
            batch = torch.zeros(batch_size, 256)
            for _ in range(2):
                optimiser.zero_grad()
                layers(batch).square().mean().backward()
                optimiser.step()
        return tensors.peak

    weights = 2 * 256 * 256 * 4
    assert 4 * weights < peak(1) < 6 * weights  # weights, gradients, two moments, and AdamW's temporaries
    activations = peak(8192) - peak(1)
    assert 3 * 8192 * 1024 < activations < 8 * 8192 * 1024  # input, hidden, output; gradients while they are needed


def test_checkpointing_saves_memory():
    deep = model("dit", 6, 64, 2)
    plain, saving = (
        profile_denoiser(deep, 4, 16, 1, PROTOCOL.model_copy(update={"activation_checkpointing": on}), classes=10)
        for on in (False, True)
    )
    assert saving["peak_memory_gb"].value < 0.6 * plain["peak_memory_gb"].value
