# SPDX-License-Identifier: Apache-2.0
"""The layers that phases 2 and 3 of the training train (paper section 3.2; how many is left open there)."""

from __future__ import annotations

from torch import nn


def middle_layers(autoencoder: nn.Module, extra_blocks: int = 0) -> list[nn.Module]:
    """Latent head of the encoder and input layers of the decoder, from image to latents to image.

    Args:
        extra_blocks: this many further blocks on either side.

    Raises:
        TypeError: the autoencoder does not say which these are.
        ValueError: it has fewer blocks.
    """
    return _method(autoencoder, "middle_layers")(extra_blocks)


def decoder_head(autoencoder: nn.Module, extra_blocks: int = 0) -> list[nn.Module]:
    """Output norm and convolution of the decoder, and ``extra_blocks`` blocks before them; raises as above."""
    return _method(autoencoder, "decoder_head")(extra_blocks)


def _method(autoencoder: nn.Module, name: str):
    method = getattr(autoencoder, name, None)
    if method is None:
        raise TypeError(
            f"{type(autoencoder).__name__} has no method {name}(extra_blocks=0) -> list of modules: "
            "a recipe with phases that train only some layers needs one"
        )
    return method


def last(blocks: list[nn.Module], count: int) -> list[nn.Module]:
    """The last ``count`` blocks."""
    return blocks[_at_most(blocks, count) :]


def first(blocks: list[nn.Module], count: int) -> list[nn.Module]:
    """The first ``count`` blocks."""
    _at_most(blocks, count)
    return blocks[:count]


def _at_most(blocks: list[nn.Module], count: int) -> int:
    """Where the last ``count`` blocks begin."""
    if not 0 <= count <= len(blocks):
        raise ValueError(f"extra_blocks must be between 0 and {len(blocks)}, got {count}")
    return len(blocks) - count
