# SPDX-License-Identifier: Apache-2.0
"""Images in and out of networks: every metric looks at uint8 images [B, 3, H, W] in RGB, as they would be stored."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def to_network(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor, quantisation: Literal["round", "truncate"] = "round") -> Tensor:
    """Images in [-1, 1] as grey levels, uint8; values outside are clamped, never wrapped around.

    ``round`` takes the nearest level: the rule of the DC-AE code for reconstructions, 255 (x / 2 + 1 / 2) + 1 / 2
    truncated, and of DiT's and EDM's sampling code, 127.5 x + 128 truncated. ``truncate`` takes the level below, as ADM
    (guided-diffusion, image_sample.py) and LDM (sample_diffusion.py) do: on average half a level darker.
    """
    offset = {"round": 128, "truncate": 127.5}[quantisation]
    return (127.5 * images.float() + offset).clamp(0, 255).to(torch.uint8)
