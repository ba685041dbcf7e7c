# SPDX-License-Identifier: Apache-2.0
"""Convolution kernels for CPUs that are faster than torch's; ``convolution.Conv2d`` calls them.

- 3x3 convolutions of wide maps use minimal filtering (Lavin and Gray 2015, arXiv 1509.09308): F(4x4, 3x3) in fp32, with
  36 products for 16 outputs instead of 144 and relative errors of 2e-6 instead of 2e-7 to 7e-7; F(2x2, 3x3) in bf16,
  with 16 products for 4 outputs instead of 36 and errors of 4e-3 instead of 2e-3.
- The gradient of the weight for a small map with many channels is one matrix product, two to five times as fast as
  torch's operator, which is tuned for large maps with few channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Transforms(NamedTuple):
    """F(m, 3) in one dimension, from m + 2 inputs and 3 weights to m outputs; in two, their Kronecker squares."""

    inputs: list[list[float]]  # [m + 2, m + 2]
    weights: list[list[float]]  # [m + 2, 3]
    outputs: list[list[float]]  # [m, m + 2]

    def squared(self, like: Tensor) -> Iterator[Tensor]:
        """Yield the matrices for flattened two-dimensional tiles: [tile², tile²], [tile², 9] and [outputs², tile²]."""
        for transform in self:
            matrix = torch.tensor(transform, dtype=like.dtype, device=like.device)
            yield torch.kron(matrix, matrix)


F23 = Transforms(
    inputs=[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    weights=[[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    outputs=[[1, 1, 1, 0], [0, 1, -1, -1]],
)
F43 = Transforms(
    inputs=[
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    weights=[
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    outputs=[[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)
TRANSFORMS = {torch.float32: F43, torch.bfloat16: F23}

# Below these the transforms cost more than the products they save.
SMALLEST_WIDTH = 256
SMALLEST_MAP = 64 * 64
# Beyond these a matrix product gains nothing.
SMALLEST_WEIGHT = 2**20  # elements
MOST_POSITIONS_PER_CHANNEL = 1

TILES_AT_A_TIME = 256  # keeps the transformed tiles in the cache
TILES_OF_GRADIENT_AT_A_TIME = 1024

Kernel = Literal["minimal filtering", "product"]


# --- Dispatch: ``None`` leaves the computation to torch ---------------------------------------------------------------


def kernel_for(layer: nn.Conv2d, dtype: torch.dtype, shape: torch.Size) -> Kernel | None:
    """Return the kernel that is faster than torch's for inputs of this type and shape [B, C, H, W]."""
    keeps_size = layer.padding == tuple(size // 2 for size in layer.kernel_size)
    if not keeps_size or layer.kernel_size not in {(1, 1), (3, 3)} or layer.stride != (1, 1) or layer.groups != 1:
        return None
    batch, _, height, width = shape
    transforms = TRANSFORMS.get(dtype)
    if (
        transforms is not None
        and layer.kernel_size == (3, 3)
        and min(layer.in_channels, layer.out_channels) >= SMALLEST_WIDTH
        and height * width >= SMALLEST_MAP
        and height % len(transforms.outputs) == width % len(transforms.outputs) == 0
    ):
        return "minimal filtering"
    few_positions = batch * height * width <= MOST_POSITIONS_PER_CHANNEL * max(layer.in_channels, layer.out_channels)
    trained = torch.is_grad_enabled() and layer.weight.requires_grad
    return "product" if trained and few_positions and layer.weight.numel() >= SMALLEST_WEIGHT else None


def convolve(kernel: Kernel | None, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """Return the convolution [B, C', H, W] of x [B, C, H, W]."""
    return minimal_filtering(x, weight, bias, TRANSFORMS[x.dtype]) if kernel == "minimal filtering" else None


def gradient_of_input(kernel: Kernel | None, gradient: Tensor, weight: Tensor) -> Tensor | None:
    """Return the gradient [B, C, H, W] of the input, given that of the output, [B, C', H, W]."""
    if kernel != "minimal filtering":
        return None
    return minimal_filtering(gradient, weight.transpose(0, 1).flip(2, 3), None, TRANSFORMS[weight.dtype])


def gradient_of_weight(kernel: Kernel | None, x: Tensor, gradient: Tensor, kernel_size: int) -> Tensor | None:
    """Return the gradient [C', C, k, k] of the weight, given that of the output, [B, C', H, W]."""
    if kernel == "minimal filtering":
        return minimal_gradient_of_weight(x, gradient, TRANSFORMS[x.dtype])
    return gradient_of_weight_as_product(x, gradient, kernel_size) if kernel == "product" else None


# --- Kernels ----------------------------------------------------------------------------------------------------------


def minimal_filtering(x: Tensor, weight: Tensor, bias: Tensor | None, transforms: Transforms) -> Tensor:
    """Compute a 3x3 convolution with stride 1 and padding 1 of x [B, C, H, W]; H and W are multiples of m.

    Args:
        weight: [C', C, 3, 3].
        bias: [C'].
        transforms: F23 or F43.

    Returns:
        [B, C', H, W], channels last.
    """
    batch, channels, height, width = x.shape
    step, tile = len(transforms.outputs), len(transforms.inputs)
    out_channels, columns = weight.shape[0], width // step
    rows_at_a_time = max(1, TILES_AT_A_TIME // columns)
    to_tiles, to_filters, from_tiles = transforms.squared(like=x)
    filters = to_filters @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    filters = filters.view(tile * tile, channels, out_channels)

    out = x.new_empty(batch, height, width, out_channels)
    for image, result in zip(x.permute(0, 2, 3, 1), out, strict=True):  # [H, W, C]
        for top in range(0, height, step * rows_at_a_time):
            rows = min(rows_at_a_time, (height - top) // step)
            tiles = _tiles(image, top, rows, step)
            products = torch.bmm((to_tiles @ tiles).view(tile * tile, -1, channels), filters)  # [tile², tiles, C']
            outputs = (from_tiles @ products.view(tile * tile, -1)).view(step, step, rows, columns, out_channels)
            place = result[top : top + step * rows].view(rows, step, columns, step, out_channels)
            torch.add(outputs.permute(2, 0, 3, 1, 4), 0.0 if bias is None else bias, out=place)
    return out.permute(0, 3, 1, 2)


def minimal_gradient_of_weight(x: Tensor, gradient: Tensor, transforms: Transforms) -> Tensor:
    """Compute the gradient of the weight of ``minimal_filtering`` by the reversed transforms.

    Args:
        x: the input [B, C, H, W].
        gradient: of the output, [B, C', H, W].
        transforms: F23 or F43.

    Returns:
        [C', C, 3, 3].
    """
    _, channels, height, width = x.shape
    step, tile, out_channels = len(transforms.outputs), len(transforms.inputs), gradient.shape[1]
    accumulator = torch.promote_types(x.dtype, torch.float32)
    columns = width // step
    rows_at_a_time = max(1, TILES_OF_GRADIENT_AT_A_TIME // columns)
    to_tiles, to_filters, from_tiles = transforms.squared(like=x)
    filters = None  # [tile², C', C], accumulated in fp32
    for image, change in zip(x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), strict=True):  # [H, W, C]
        for top in range(0, height, step * rows_at_a_time):
            rows = min(rows_at_a_time, (height - top) // step)
            tiles = (to_tiles @ _tiles(image, top, rows, step)).view(tile * tile, -1, channels)
            changes = change[top : top + step * rows].reshape(rows, step, columns, step, out_channels)
            changes = changes.permute(1, 3, 0, 2, 4).reshape(step * step, -1)
            products = (from_tiles.T @ changes).view(tile * tile, -1, out_channels)
            part = torch.bmm(products.transpose(1, 2), tiles)
            filters = part if filters is None else filters.to(accumulator).add_(part)
    of_weight = to_filters.to(filters.dtype).T @ filters.view(tile * tile, -1)
    return of_weight.view(3, 3, out_channels, channels).permute(2, 3, 0, 1)


def gradient_of_weight_as_product(x: Tensor, gradient: Tensor, kernel_size: int) -> Tensor:
    """Compute the gradient of the weight of a convolution with stride 1 that keeps the size, as a matrix product.

    Args:
        x: the input [B, C, H, W].
        gradient: of the output, [B, C', H, W].
        kernel_size: k, odd.

    Returns:
        [C', C, k, k], channels last.
    """
    batch, channels, height, width = x.shape
    margin = kernel_size // 2
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, margin, margin, margin, margin))  # [B, H + k - 1, W + k - 1, C]
    image, down, right, channel = padded.stride()
    shape = (batch, height, width, kernel_size, kernel_size, channels)
    shifted = padded.as_strided(shape, (image, down, right, down, right, channel)).reshape(batch * height * width, -1)
    of_weight = gradient.permute(1, 0, 2, 3).flatten(1) @ shifted  # [C', k * k * C]
    return of_weight.view(-1, kernel_size, kernel_size, channels).permute(0, 3, 1, 2)


def _tiles(image: Tensor, top: int, rows: int, step: int) -> Tensor:
    """Return overlapping tiles [tile², tiles * C] of a zero-padded image [H, W, C], ``rows`` rows from ``top``."""
    height, width, channels = image.shape
    tile = step + 2
    first, last = max(top - 1, 0), min(top + step * rows + 1, height)
    padded = image.new_zeros(step * rows + 2, width + 2, channels)
    padded[first - (top - 1) : last - (top - 1), 1:-1] = image[first:last]
    down, right, _ = padded.stride()
    shape = (tile, tile, rows, width // step, channels)
    return padded.as_strided(shape, (down, right, step * down, step * right, 1)).reshape(tile * tile, -1)
