# SPDX-License-Identifier: Apache-2.0
"""PSNR and SSIM of uint8 images [B, 3, H, W] in RGB."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SSIM_SIGMA, SSIM_TAPS = 1.5, 11
STRIP = 2**14  # pixels of a colour channel whose maps fit into a core's cache
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def require_uint8(images: Tensor, references: Tensor) -> None:
    """Raise ``ValueError`` unless both are uint8 images [B, 3, H, W] of one shape.

    Images in [-1, 1] or [0, 1] would give a PSNR that is 42 or 48 dB too high, and an SSIM near 1.
    """
    for each in (images, references):
        if each.dtype != torch.uint8 or each.ndim != 4:
            raise ValueError(
                f"expected uint8 images [B, 3, H, W] from 0 to 255, got {each.dtype} {tuple(each.shape)}; "
                "evaluation.to_uint8 converts images in [-1, 1]"
            )
    if images.shape != references.shape:
        raise ValueError(f"images {tuple(images.shape)} and references {tuple(references.shape)} differ in shape")


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio in dB of each image, float64 [B]; infinite for equal images.

    The value of a dataset is the mean over images. Pooling the squared errors first, as torchmetrics does by default,
    gives up to 2 dB less.

    Raises:
        ValueError: not uint8 images of one shape.
    """
    require_uint8(images, references)
    squared_error = (images.double() - references.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / squared_error)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Compute the structural similarity of each image, float64 [B] (Wang et al. 2004), as torchmetrics 1.9 does.

    That is DC-AE's convention: Gaussian window of 11 x 11 pixels and sigma 1.5, K 0.01 and 0.03, range 255, per RGB
    channel, mean over every pixel of the image with its border mirrored (torchmetrics before 1.4.2 left the border out;
    other conventions differ by up to 0.08). It equals torchmetrics in float64 to 1e-15; torchmetrics' default float32
    differs by 2e-5 in the mean, and by 4e-4 in single images. It is written out for speed: with torchmetrics, a whole
    evaluation pass at 256 px takes 1.59 times the CPU time in float64, 1.21 in float32.

    Raises:
        ValueError: not uint8 images of one shape, or a side is shorter than 6 pixels, too short to mirror.
    """
    require_uint8(images, references)
    if min(images.shape[-2:]) <= SSIM_TAPS // 2:
        raise ValueError(f"SSIM needs images of at least {SSIM_TAPS // 2 + 1} pixels a side, got {tuple(images.shape)}")
    rows = images.shape[-2] if images.is_cuda else max(16, STRIP // images.shape[-1])
    pairs = zip(_mirrored(images), _mirrored(references), strict=True)
    values = [_ssim_sum(x, y, rows) for x, y in pairs]
    return torch.stack(values) / images[0].numel() if values else images.new_zeros(0, dtype=torch.float64)


def _mirrored(images: Tensor) -> Tensor:
    """Add a mirrored border of half the window to images [..., H, W]; the edge itself is not repeated."""
    border = SSIM_TAPS // 2
    for dim in (-2, -1):
        side = images.shape[dim]
        before = images.narrow(dim, 1, border).flip(dim)
        after = images.narrow(dim, side - 1 - border, border).flip(dim)
        images = torch.cat([before, images, after], dim)
    return images


def _ssim_sum(image: Tensor, reference: Tensor, rows: int) -> Tensor:
    """Sum the SSIM map of two mirrored images [C, H + 10, W + 10], a few rows at a time, which stay in the cache."""
    border = SSIM_TAPS - 1
    total = torch.zeros((), dtype=torch.float64, device=image.device)
    for start in range(0, image.shape[-2] - border, rows):
        # In float32 the variance of a flat area is lost to rounding, and equal images get less than 1.
        x, y = (each[:, start : start + rows + border].double() for each in (image, reference))
        mean_x, mean_y, squares, product = _local_means(torch.stack([x, y, x * x + y * y, x * y]))
        product_of_means, squares_of_means = mean_x * mean_y, mean_x**2 + mean_y**2
        variances = (squares - squares_of_means).clamp_(min=0)
        covariance = product - product_of_means
        above = (2 * product_of_means + SSIM_C1) * (2 * covariance + SSIM_C2)
        total += (above / ((squares_of_means + SSIM_C1) * (variances + SSIM_C2))).sum()
    return total


def _local_means(maps: Tensor) -> Tensor:
    """Return Gaussian means [..., H, W] of maps [..., H + 10, W + 10], along columns, then along rows."""
    half = SSIM_TAPS // 2
    weights = [math.exp(-0.5 * ((tap - half) / SSIM_SIGMA) ** 2) for tap in range(SSIM_TAPS)]
    for dim in (-2, -1):
        side = maps.shape[dim] - SSIM_TAPS + 1
        # Sums of shifted maps: on a CPU several times as fast as a convolution with one channel.
        total = torch.zeros_like(maps.narrow(dim, 0, side), memory_format=torch.contiguous_format)
        for tap, weight in enumerate(weights):
            total.add_(maps.narrow(dim, tap, side), alpha=weight / sum(weights))
        maps = total
    return maps
