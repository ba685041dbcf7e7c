# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing: activations that are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from torch import nn

from dcae.benchmark.config import ConfigError


def recompute_activations(autoencoder: nn.Module, stages: bool | list[int]) -> None:
    """Let an autoencoder keep no activations of the given stages; gradients stay the same.

    Args:
        autoencoder: with a method ``checkpoint_stages(stages)``, or one of diffusers' classes.
        stages: numbers of stages (stage i works at H / 2**i), true for all, false for none.

    Raises:
        ConfigError: the autoencoder cannot do this, or not for some of its stages alone.
    """
    if not stages:
        return
    if hasattr(autoencoder, "checkpoint_stages"):
        autoencoder.checkpoint_stages(stages)
        return
    model = getattr(autoencoder, "model", None)  # of a class of diffusers
    kind = type(model or autoencoder).__name__
    if not getattr(model, "_supports_gradient_checkpointing", False):
        raise ConfigError(
            f"gradient_checkpointing is {stages} in the recipe, but {kind} has no method checkpoint_stages(stages): "
            "leave it out, or add that method"
        )
    if stages is not True:
        raise ConfigError(
            f"gradient_checkpointing is {stages} in the recipe, but {kind} takes all stages or none: true"
        )
    model.enable_gradient_checkpointing()
