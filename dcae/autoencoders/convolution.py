# SPDX-License-Identifier: Apache-2.0
"""A convolution layer that computes less on CPUs, and keeps less for a backward pass where its weight is frozen.

It is ``torch.nn.Conv2d`` in everything that it computes, its parameters and their names. Three things differ:

- 3x3 convolutions of wide maps on a CPU use minimal filtering (Lavin and Gray 2015, arXiv 1509.09308): F(4x4, 3x3) in
  fp32, with 36 products for 16 outputs instead of 144 and relative errors of 2e-6 instead of 2e-7 to 7e-7;
  F(2x2, 3x3) in bf16, with 16 products for 4 outputs instead of 36 and errors of 4e-3 instead of 2e-3.
- On a CPU the gradient of the weight of a small map of many channels is one matrix product, two to five times as fast
  as the operator that is made for large maps of few channels.
- PyTorch keeps the input of every convolution, but only the gradient of the weight needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F


def at_least_fp32(x: Tensor) -> Tensor:
    """bf16 and fp16 as fp32, anything else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Transforms(NamedTuple):
    """F(m, 3) in one dimension: from m + 2 inputs and 3 weights to m outputs. In two dimensions, Kronecker squares."""

    inputs: list[list[float]]  # [m + 2, m + 2]
    weights: list[list[float]]  # [m + 2, 3]
    outputs: list[list[float]]  # [m, m + 2]

    def squared(self, like: Tensor) -> Iterator[Tensor]:
        """In two dimensions, tiles flattened: [tile², tile²], [tile², 9] and [outputs², tile²]."""
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

# Below these the transforms cost more than the saved products.
SMALLEST_WIDTH = 256
SMALLEST_MAP = 64 * 64
TILES_AT_A_TIME = 256  # keeps the transformed tiles in the cache
TILES_OF_GRADIENT_AT_A_TIME = 1024

# Beyond these a matrix product gains nothing.
SMALLEST_WEIGHT = 2**20  # elements
MOST_POSITIONS_PER_CHANNEL = 1

Shortcut = Literal["minimal filtering", "product"]


def minimal_filtering(x: Tensor, weight: Tensor, bias: Tensor | None, transforms: Transforms) -> Tensor:
    """3x3 convolution with stride 1 and padding 1 of x [B, C, H, W]; H and W are multiples of the transforms' outputs.

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
    """Gradient of the weight of ``minimal_filtering``: the transforms in reverse, around as few products as there.

    Args:
        x: the input [B, C, H, W].
        gradient: of the output, [B, C', H, W].
        transforms: F23 or F43.

    Returns:
        [C', C, 3, 3].
    """
    _, channels, height, width = x.shape
    step, tile, out_channels = len(transforms.outputs), len(transforms.inputs), gradient.shape[1]
    columns = width // step
    rows_at_a_time = max(1, TILES_OF_GRADIENT_AT_A_TIME // columns)
    to_tiles, to_filters, from_tiles = transforms.squared(like=x)
    filters = None  # [tile², C', C], summed up in fp32 if it is a sum
    for image, change in zip(x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), strict=True):  # [H, W, C]
        for top in range(0, height, step * rows_at_a_time):
            rows = min(rows_at_a_time, (height - top) // step)
            tiles = (to_tiles @ _tiles(image, top, rows, step)).view(tile * tile, -1, channels)
            changes = change[top : top + step * rows].reshape(rows, step, columns, step, out_channels)
            changes = changes.permute(1, 3, 0, 2, 4).reshape(step * step, -1)
            products = (from_tiles.T @ changes).view(tile * tile, -1, out_channels)
            part = torch.bmm(products.transpose(1, 2), tiles)
            filters = part if filters is None else at_least_fp32(filters).add_(part)
    of_weight = to_filters.to(filters.dtype).T @ filters.view(tile * tile, -1)
    return of_weight.view(3, 3, out_channels, channels).permute(2, 3, 0, 1)


def gradient_of_weight_as_product(x: Tensor, gradient: Tensor, kernel_size: int) -> Tensor:
    """Gradient of the weight of a convolution with stride 1 that keeps the size: gradients times shifted inputs.

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
    """Overlapping tiles of an image [H, W, C] with zeros around it, ``rows`` rows from ``top``: [tile², tiles * C]."""
    height, width, channels = image.shape
    tile = step + 2
    first, last = max(top - 1, 0), min(top + step * rows + 1, height)
    padded = image.new_zeros(step * rows + 2, width + 2, channels)
    padded[first - (top - 1) : last - (top - 1), 1:-1] = image[first:last]
    down, right, _ = padded.stride()
    shape = (tile, tile, rows, width // step, channels)
    return padded.as_strided(shape, (down, right, step * down, step * right, 1)).reshape(tile * tile, -1)


class _Convolution(torch.autograd.Function):
    """A convolution that saves its input for the gradient of the weight alone, and its weight for that of the input."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, groups, shortcut):
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        ctx.geometry, ctx.shortcut, ctx.shape, ctx.dtype = (stride, padding, groups), shortcut, x.shape, weight.dtype
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x or needs_weight else None)
        if shortcut == "minimal filtering":
            return minimal_filtering(x, weight, bias, TRANSFORMS[x.dtype])
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_x = of_weight = of_bias = None
        if needs_x and ctx.shortcut == "minimal filtering":
            flipped = weight.transpose(0, 1).flip(2, 3)
            of_x = minimal_filtering(gradient, flipped, None, TRANSFORMS[weight.dtype])
        if needs_weight and ctx.shortcut == "minimal filtering":
            of_weight = minimal_gradient_of_weight(x, gradient, TRANSFORMS[weight.dtype])
        elif needs_weight and ctx.shortcut == "product":
            of_weight = gradient_of_weight_as_product(x, gradient, weight.shape[-1])
        missing = needs_x and of_x is None, needs_weight and of_weight is None, False
        if any(missing):
            like_x = x if x is not None else gradient.new_empty(1).expand(ctx.shape)
            computed = torch.ops.aten.convolution_backward(
                gradient, like_x, weight, None, stride, padding, (1, 1), False, (0, 0), groups, missing
            )
            of_x, of_weight = (
                new if new is not None else old for new, old in zip(computed[:2], (of_x, of_weight), strict=True)
            )
        if of_weight is not None:
            of_weight = of_weight.to(ctx.dtype)
        if needs_bias:
            of_bias = gradient.sum(dim=(0, 2, 3), dtype=torch.float32)
        return of_x, of_weight, of_bias, None, None, None, None


def _computed_in(x: Tensor) -> torch.dtype:
    """The type that a convolution of x is computed in: autocast's, if it is on (the meta device knows none)."""
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else x.dtype


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` as the head of this module says."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        dtype = _computed_in(x)
        computed = x.device.type == "cpu" and not isinstance(x, FakeTensor)  # which is a shape without values
        shortcut = self._shortcut(dtype, x.shape) if computed else None
        frozen = torch.is_grad_enabled() and x.requires_grad and not self.weight.requires_grad
        if shortcut is None and not frozen:
            return super().forward(x)
        return _Convolution.apply(x.to(dtype), self.weight, self.bias, self.stride, self.padding, self.groups, shortcut)

    def _shortcut(self, dtype: torch.dtype, shape: torch.Size) -> Shortcut | None:
        """The way that is faster than torch's, for an input of this type and shape."""
        keeps_size = self.padding == tuple(size // 2 for size in self.kernel_size)
        if not keeps_size or self.kernel_size not in {(1, 1), (3, 3)} or self.stride != (1, 1) or self.groups != 1:
            return None
        if self._gains_from_minimal_filtering(dtype, *shape[-2:]):
            return "minimal filtering"
        positions = shape[0] * shape[2] * shape[3]
        few_positions = positions <= MOST_POSITIONS_PER_CHANNEL * max(self.in_channels, self.out_channels)
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        return "product" if trained and few_positions and self.weight.numel() >= SMALLEST_WEIGHT else None

    def _gains_from_minimal_filtering(self, dtype: torch.dtype, height: int, width: int) -> bool:
        transforms = TRANSFORMS.get(dtype)
        return (
            transforms is not None
            and self.kernel_size == (3, 3)
            and min(self.in_channels, self.out_channels) >= SMALLEST_WIDTH
            and height * width >= SMALLEST_MAP
            and height % len(transforms.outputs) == width % len(transforms.outputs) == 0
        )
