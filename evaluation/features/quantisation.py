# SPDX-License-Identifier: Apache-2.0
"""Images in and out of networks: every metric takes uint8 images [B, 3, H, W] in RGB, as they would be stored."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def to_network(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor, quantisation: Literal["round", "truncate"] = "round") -> Tensor:
    """Convert images [..., H, W] in [-1, 1] to 8-bit values, uint8 of the same shape; values outside are clamped.

    ``round`` takes the nearest value: the rule of the DC-AE code for reconstructions, 255 (x / 2 + 1 / 2) + 1 / 2
    truncated, and of DiT's and EDM's sampling code, 127.5 x + 128 truncated. ``truncate`` takes the value below, as ADM
    (guided-diffusion, image_sample.py) and LDM (sample_diffusion.py) do: darker by 0.5 on average.
    """
    offset = {"round": 128, "truncate": 127.5}[quantisation]
    return (127.5 * images.float() + offset).clamp(0, 255).to(torch.uint8)
