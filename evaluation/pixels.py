# SPDX-License-Identifier: Apache-2.0
"""Pixels in and out of networks, and the metrics that compare pixels: PSNR and SSIM.

Every metric of this project looks at uint8 images [B, 3, H, W] in RGB, as they would be stored.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

SSIM_SIGMA, SSIM_TAPS = 1.5, 11
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


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


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, float64 [B]; infinite where an image equals its reference.

    The number of a data set is the mean over images. Pooling the squared errors first, as torchmetrics does by default,
    gives up to 2 dB less.
    """
    squared_error = (images.double() - references.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / squared_error)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of each image, float64 [B] (Wang et al. 2004), by the convention of torchmetrics 1.9.

    That is DC-AE's: Gaussian window of 11 x 11 pixels and sigma 1.5, K 0.01 and 0.03, range 255, each colour channel by
    itself, mean over every pixel of the image, whose border is mirrored (versions before 1.4.2 left the border out;
    others differ by up to 0.08). It is written out here since the convention changed between versions of torchmetrics.

    Raises:
        ValueError: a side of fewer than 6 pixels, which is too small to mirror.
    """
    if min(images.shape[-2:]) <= SSIM_TAPS // 2:
        raise ValueError(f"SSIM needs images of at least {SSIM_TAPS // 2 + 1} pixels a side, got {tuple(images.shape)}")
    # In float32 the variance of a flat area drowns in rounding, and equal images get less than 1.
    x, y = images.double(), references.double()
    mean_x, mean_y, square_x, square_y, product = _local_means(torch.stack([x, y, x * x, y * y, x * y]))
    variance_x = (square_x - mean_x**2).clamp(min=0)
    variance_y = (square_y - mean_y**2).clamp(min=0)
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_x + variance_y + SSIM_C2)
    return (luminance * structure).flatten(1).mean(1)


def _local_means(maps: Tensor) -> Tensor:
    """Gaussian means around each pixel, the same shape [..., H, W]: the window down the columns, then along rows."""
    half = SSIM_TAPS // 2
    weights = [math.exp(-0.5 * ((tap - half) / SSIM_SIGMA) ** 2) for tap in range(SSIM_TAPS)]
    for dim in (-2, -1):
        side = maps.shape[dim]
        padded = _mirrored(maps, half, dim)
        # Sums of shifted maps: on a CPU several times faster than a convolution with one channel.
        total = torch.zeros_like(maps)
        for tap, weight in enumerate(weights):
            total.add_(padded.narrow(dim, tap, side), alpha=weight / sum(weights))
        maps = total
    return maps


def _mirrored(maps: Tensor, border: int, dim: int) -> Tensor:
    """Maps with a mirrored border at both ends of a dimension; the edge itself is not repeated."""
    side = maps.shape[dim]
    before = maps.narrow(dim, 1, border).flip(dim)
    after = maps.narrow(dim, side - 1 - border, border).flip(dim)
    return torch.cat([before, maps, after], dim)
