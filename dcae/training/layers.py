# SPDX-License-Identifier: Apache-2.0
"""Selects the layers that a phase trains, and freezes all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dcae.autoencoders.contract import decoder_head, middle_layers


def trained_layers(autoencoder: nn.Module, trains: str, extra_blocks: int = 0) -> list[nn.Module]:
    """Return the modules that a phase trains (``all``, ``middle`` or ``decoder-head``), in the order in which they run.

    Args:
        extra_blocks: additional blocks of ``middle`` (on each side) or ``decoder-head``.

    Raises:
        ValueError: the autoencoder has fewer blocks.
    """
    if trains == "all":
        return [autoencoder]
    choose = middle_layers if trains == "middle" else decoder_head
    return choose(autoencoder, extra_blocks)


def last_layer(autoencoder: nn.Module) -> nn.Parameter:
    """Return the weight of the layer that outputs the image."""
    return [parameter for parameter in decoder_head(autoencoder)[-1].parameters() if parameter.dim() > 1][-1]


def freeze_all_but(autoencoder: nn.Module, trains: str, extra_blocks: int = 0) -> None:
    """Freeze every layer that a phase does not train.

    Layers before the first trained one then record nothing for the backward pass. If anything is frozen, the whole
    network is in evaluation mode, since BatchNorm's running statistics would change in training mode.
    """
    autoencoder.requires_grad_(False)
    for layer in trained_layers(autoencoder, trains, extra_blocks):
        layer.requires_grad_(True)
    autoencoder.train(trains == "all")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients, and restore every module's mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    with torch.no_grad():
        yield
    for part, training in modes:
        part.training = training
