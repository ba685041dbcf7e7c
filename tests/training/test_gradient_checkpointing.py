# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing of the autoencoders that can do it, and an error of those that cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcae.autoencoders.loading import load
from dcae.benchmark import ConfigError
from dcae.training.gradient_checkpointing import set_gradient_checkpointing


@pytest.mark.parametrize(
    ("stages", "recomputed"), [(False, []), ([], []), ([1, 3], [1, 3]), (True, [0, 1, 2, 3])], ids=str
)
def test_a_dc_ae_recomputes_the_stages_that_are_asked_for(tiny, stages, recomputed):
    autoencoder = load(tiny.dc_ae())
    set_gradient_checkpointing(autoencoder, stages)
    for blocks in (autoencoder.encoder.down_blocks, autoencoder.decoder.up_blocks):
        assert [i for i, stage in enumerate(blocks) if stage.gradient_checkpointing] == recomputed


def test_a_stage_that_is_not_there_is_an_error(tiny):
    with pytest.raises(ValueError, match=r"tiny-dc-ae has the stages 0 to 3, got \[4\]"):
        set_gradient_checkpointing(load(tiny.dc_ae()), [1, 4])


def test_a_class_of_diffusers_recomputes_everything_or_nothing(tiny):
    autoencoder = load(tiny.sd_vae())
    set_gradient_checkpointing(autoencoder, False)
    assert not autoencoder.model.is_gradient_checkpointing
    with pytest.raises(ConfigError, match=r"is \[1\] in the recipe, but AutoencoderKL takes all stages or none: true"):
        set_gradient_checkpointing(autoencoder, [1])
    set_gradient_checkpointing(autoencoder, True)
    assert autoencoder.model.is_gradient_checkpointing


def test_a_class_that_cannot_is_an_error():
    with pytest.raises(ConfigError, match=r"but Identity has no method set_gradient_checkpointing\(stages\)"):
        set_gradient_checkpointing(nn.Identity(), True)


@pytest.mark.parametrize("kind", ["dc_ae", "sd_vae"])
def test_a_training_ends_with_the_same_bits(tiny, tmp_path, kind):
    """Statistics of BatchNorm included: what is computed twice is not counted twice."""
    weights = []
    for stages in (False, True):
        losses = {"gan": tiny.GAN, **({"kl": 1e-6} if kind == "sd_vae" else {})}
        recipe = tiny.recipe(tiny.phase("single", "all", losses=losses, gradient_checkpointing=stages))
        weights.append(tiny.weights(tiny.train(tmp_path / str(stages), getattr(tiny, kind)(), recipe, "single")))
    assert [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])] == []
