# SPDX-License-Identifier: Apache-2.0
"""Embeddings of positions, timesteps and labels, and unpatchifying of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAXIMUM_PERIOD = 10_000


def sinusoid(timesteps: Tensor, width: int) -> Tensor:
    """Return cosines, then sines, of the timesteps at frequencies from 1 down to nearly 1/10,000 (DiT, U-ViT).

    Args:
        timesteps: [B], whole or fractional.
        width: of the result, an even number.

    Returns:
        float32 [B, width].
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(MAXIMUM_PERIOD) * exponents)  # [B, width / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_table(side: int, width: int) -> Tensor:
    """Return DiT's fixed 2-D sin-cos position embedding of a square of tokens in row-major order.

    The quarters of the width hold sines of the column, cosines of the column, sines of the row and cosines of the row.

    Args:
        side: tokens per row and per column.
        width: a multiple of 4.

    Returns:
        float32 [1, side * side, width].
    """
    quarter = width // 4
    frequencies = MAXIMUM_PERIOD ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies  # [side, width / 4]
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)  # [side, width / 2]
    column = waves[None, :, :].expand(side, side, -1)
    row = waves[:, None, :].expand(side, side, -1)
    return torch.cat([column, row], dim=-1).reshape(1, side * side, width).float()


class TimestepEmbedding(nn.Module):
    """DiT's embedding of the timestep: a sinusoid of width 256 through two linear layers."""

    frequencies = 256

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timesteps: Tensor) -> Tensor:
        """Map [B] to [B, width]."""
        return self.mlp(sinusoid(timesteps, self.frequencies).to(self.mlp[0].weight.dtype))


class LabelEmbedding(nn.Embedding):
    """One vector per class, and a last one for "no class" (classifier-free guidance)."""

    def __init__(self, classes: int, width: int):
        super().__init__(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """Map [B] to [B, width]; raises ``ValueError`` for a label outside 0 ... classes."""
        # On an accelerator this check would wait for the device; there the lookup itself fails.
        # Compiled or traced labels have no values.
        if labels.device.type == "cpu" and type(labels) is Tensor and not torch.compiler.is_compiling():
            check_labels(labels, self.num_embeddings)
        return super().forward(labels)


def check_labels(labels: Tensor, number: int) -> None:
    """Raise ``ValueError`` unless every label is in 0 ... number - 1."""
    outside = labels[(labels < 0) | (labels >= number)]
    if len(outside):
        raise ValueError(f"labels must be in 0 ... {number - 1}, got {int(outside[0])}")


def unpatchify(tokens: Tensor, patch_size: int) -> Tensor:
    """Map tokens [B, side * side, p * p * c], patches with channels last, to latents [B, c, side * p, side * p]."""
    batch, number, values = tokens.shape
    side = math.isqrt(number)
    channels = values // patch_size**2
    patches = tokens.reshape(batch, side, side, patch_size, patch_size, channels)  # [B, row, column, y, x, c]
    return patches.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, side * patch_size, side * patch_size)
