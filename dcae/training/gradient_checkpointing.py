# SPDX-License-Identifier: Apache-2.0
"""Gradient checkpointing of autoencoders: activations are recomputed in the backward pass instead of kept."""

from __future__ import annotations

from torch import nn

from dcae.benchmark.config import ConfigError


def set_gradient_checkpointing(autoencoder: nn.Module, stages: bool | list[int]) -> None:
    """Enable gradient checkpointing in the given stages; gradients stay the same.

    Args:
        autoencoder: with a method ``set_gradient_checkpointing(stages)``, or a wrapped diffusers model.
        stages: list of stages (stage i works at H / 2**i), true for all, false for none.

    Raises:
        ConfigError: the autoencoder does not support it, or only for all stages at once.
    """
    if not stages:
        return
    if hasattr(autoencoder, "set_gradient_checkpointing"):
        autoencoder.set_gradient_checkpointing(stages)
        return
    model = getattr(autoencoder, "model", None)  # of a wrapped diffusers model
    kind = type(model or autoencoder).__name__
    if not getattr(model, "_supports_gradient_checkpointing", False):
        raise ConfigError(
            f"gradient_checkpointing is {stages} in the recipe, but {kind} has no method "
            "set_gradient_checkpointing(stages): leave it out, or add that method"
        )
    if stages is not True:
        raise ConfigError(
            f"gradient_checkpointing is {stages} in the recipe, but {kind} takes all stages or none: true"
        )
    model.enable_gradient_checkpointing()
