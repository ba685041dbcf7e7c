# SPDX-License-Identifier: Apache-2.0
"""The recipes hold the published values, and the demo's ones are the same trainings in small."""

from __future__ import annotations

import pytest

from dcae.benchmark import Config

FULL, ADAPTATION, REFINEMENT = (
    "low-resolution-full", "high-resolution-latent-adaptation", "low-resolution-local-refinement"
)  # fmt: skip


def phases(recipe: str) -> dict:
    return {phase.name: phase for phase in Config().entry("recipes", recipe).phases}


def terms(phase) -> set[str]:
    losses = phase.losses
    return {name for name in ("perceptual", "gan", "kl") if getattr(losses, name) is not None}


@pytest.mark.parametrize(
    ("name", "trains", "rate", "betas", "decay", "expected_terms"),
    [
        (FULL, "all", 6.4e-5, (0.9, 0.999), 0.1, {"perceptual"}),
        (ADAPTATION, "middle", 1.6e-5, (0.9, 0.999), 0.001, {"perceptual"}),
        (REFINEMENT, "decoder-head", 5.4e-5, (0.5, 0.9), 0.0, {"perceptual", "gan"}),
    ],
)
def test_the_three_phases_are_the_published_ones(name, trains, rate, betas, decay, expected_terms):
    phase = phases("dc-ae-three-phase")[name]
    optimiser = phase.optimiser
    assert (phase.trains, optimiser.learning_rate, optimiser.betas) == (trains, rate, betas)
    assert (optimiser.weight_decay, optimiser.warmup_steps, phase.ema) == (decay, 0, None)
    assert terms(phase) == expected_terms
    assert phase.losses.perceptual.lpips.network == "vgg"


def test_the_second_phase_alone_has_a_high_resolution():
    for recipe in ("dc-ae-three-phase", "demo-three-phase"):
        low, high, again = (phases(recipe)[name].resolution for name in (FULL, ADAPTATION, REFINEMENT))
        assert low == again < high


def test_the_baseline_is_trained_as_latent_diffusion_trains_it():
    phase = phases("sd-vae-single-phase")["single"]
    assert phase.optimiser.learning_rate == pytest.approx(4.5e-6 * phase.batch_size)
    assert phase.optimiser.betas == phase.losses.gan.optimiser.betas == (0.5, 0.9)
    assert (phase.losses.kl, phase.losses.gan.weight, phase.losses.gan.start_step) == (1e-6, 0.5, 50_001)
    assert phase.losses.gan.adaptive_weight


@pytest.mark.parametrize(
    ("baseline", "recipe"),
    [
        ("sd-vae-single-phase", "dc-ae-three-phase"),
        ("sd-vae-single-phase-mixture", "dc-ae-three-phase-mixture"),
        ("mini-single-phase", "mini-three-phase"),
        ("demo-single-phase", "demo-three-phase"),
    ],
)
def test_the_baseline_sees_the_same_data_and_as_many_images_as_the_first_phase(baseline, recipe):
    config = Config()
    assert config.entry("recipes", baseline).datasets == config.entry("recipes", recipe).datasets
    ours, theirs = phases(recipe)[FULL], phases(baseline)["single"]
    assert ours.steps * ours.batch_size == theirs.steps * theirs.batch_size
    assert ours.resolution == theirs.resolution


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (f"{prefix}-{recipe}", f"{model}-{recipe}")
        for prefix in ("mini", "demo")
        for model, recipe in (("dc-ae", "three-phase"), ("sd-vae", "single-phase"))
    ],
)
def test_small_recipes_have_the_phases_and_losses_of_the_full_recipes_but_lpips_at_first(small, large):
    def shape(recipe):
        return [(phase.name, phase.trains, terms(phase)) for phase in phases(recipe).values()]

    (name, trains, losses), *rest = shape(large)
    assert shape(small) == [(name, trains, losses - {"perceptual"}), *rest]
    assert f"phases.{name}.losses" in Config().entry("recipes", small).choices


@pytest.mark.parametrize("prefix", ["dc-ae", "mini"])
def test_recipes_of_studies_differ_in_nothing_but_what_is_studied(prefix):
    base, alone = phases(f"{prefix}-three-phase"), phases(f"{prefix}-refinement")
    assert alone == {REFINEMENT: base[REFINEMENT]}
    losses = base[REFINEMENT].losses.model_copy(update={"gan": None})
    assert phases(f"{prefix}-no-gan") == {REFINEMENT: base[REFINEMENT].model_copy(update={"losses": losses})}
    assert phases(f"{prefix}-full-gan") == {REFINEMENT: base[REFINEMENT].model_copy(update={"trains": "all"})}
    assert phases(f"{prefix}-head-1") == {REFINEMENT: base[REFINEMENT].model_copy(update={"extra_blocks": 1})}
    adapted = base[ADAPTATION].model_copy(update={"extra_blocks": 1})
    assert phases(f"{prefix}-middle-1") == {ADAPTATION: adapted, REFINEMENT: base[REFINEMENT]}
