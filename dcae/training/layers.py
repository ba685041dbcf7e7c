# SPDX-License-Identifier: Apache-2.0
"""Which layers a phase trains, and how everything else stays bit for bit as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dcae.autoencoders.layers import decoder_head, middle_layers


def trained_layers(autoencoder: nn.Module, trains: str, extra_blocks: int = 0) -> list[nn.Module]:
    """The modules that a phase trains (``all``, ``middle`` or ``decoder-head``), from image to image.

    Args:
        extra_blocks: blocks beyond the least that ``middle`` (on each side) or ``decoder-head`` can mean.

    Raises:
        ValueError: the autoencoder has fewer blocks.
    """
    if trains == "all":
        return [autoencoder]
    choose = middle_layers if trains == "middle" else decoder_head
    return choose(autoencoder, extra_blocks)


def last_layer(autoencoder: nn.Module) -> nn.Parameter:
    """Weight of the layer that makes the image."""
    return [parameter for parameter in decoder_head(autoencoder)[-1].parameters() if parameter.dim() > 1][-1]


def freeze_all_but(autoencoder: nn.Module, trains: str, extra_blocks: int = 0) -> None:
    """Let a phase train its own layers and nothing else.

    The other parameters get no gradients, so layers before the first trained one run without recording anything for a
    backward pass. If anything is frozen, the whole network is in evaluation mode: running statistics of BatchNorm would
    change in training mode even where no parameter does.
    """
    autoencoder.requires_grad_(False)
    for layer in trained_layers(autoencoder, trains, extra_blocks):
        layer.requires_grad_(True)
    autoencoder.train(trains == "all")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every part is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    with torch.no_grad():
        yield
    for part, training in modes:
        part.training = training
