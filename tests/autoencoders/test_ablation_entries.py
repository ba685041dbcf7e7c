# SPDX-License-Identifier: Apache-2.0
"""The paper-size entries of config/ablations.yaml: each is built in full, without memory or weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcae.autoencoders.loading import load
from dcae.benchmark import Benchmark
from dcae.training.layers import freeze_all_but

BENCHMARK = Benchmark.load(Path(__file__).parents[2] / "config" / "ablations.yaml")
TRAINED = [name for name in BENCHMARK.all_autoencoders if BENCHMARK.autoencoder(name).recipe]
MILLIONS = {
    "dc-ae-f32c32": 323.4,
    "dc-ae-f32c32-no-gan": 323.4,
    "dc-ae-f64c128-no-residual": 676.9,
    "sd-vae-f32c32": 140.7,
    "sd-vae-f32c32-wide": 365.6,
}  # of parameters: as published, and of the baselines as diffusers' classes have them


@pytest.mark.parametrize("name", TRAINED)
def test_each_phase_finds_the_layers_that_it_trains(name):
    autoencoder = load(BENCHMARK.autoencoder(name), config=BENCHMARK.config, device="meta")
    if name in MILLIONS:
        count = sum(parameter.numel() for parameter in autoencoder.parameters())
        assert round(count / 1e6, 1) == MILLIONS[name]
    for phase in BENCHMARK.recipe(BENCHMARK.autoencoder(name).recipe).phases:
        freeze_all_but(autoencoder, phase.trains, phase.extra_blocks)
        trained = [parameter.requires_grad for parameter in autoencoder.parameters()]
        assert any(trained) and all(trained) == (phase.trains == "all")
