# SPDX-License-Identifier: Apache-2.0
"""The parts of DC-AE: shortcuts without parameters, blocks, down and up blocks (paper section 3.1 and figure 4).

Parameters have the names and shapes of diffusers' ``AutoencoderDC``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.autoencoders.convolution import Conv2d
from dcae.initialisation import set_to_zero

Shortcut = Literal["released-code", "paper-text", "none"]

# --- Residual autoencoding: shortcuts without parameters (paper section 3.2, figure 4) --------------------------------
#
# The released code and the text of the paper order channels differently. Within either pair, down after up is the
# identity; a decoder of one pair does not fit an encoder of the other.
#
# All of these work on the view [B, H, W, C] and return channels_last: on CUDA, ``F.pixel_shuffle`` and its inverse
# return NCHW, after which every convolution would copy its input.


def space_to_channel(x: Tensor) -> Tensor:
    """Return ``F.pixel_unshuffle(x, 2)``: [B, C, H, W] to [B, 4C, H/2, W/2]."""
    blocks = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # [B, H/2, 2, W/2, 2, C]
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(3).permute(0, 3, 1, 2)


def channel_to_space(x: Tensor) -> Tensor:
    """Return ``F.pixel_shuffle(x, 2)``: [B, 4C, H, W] to [B, C, 2H, 2W]."""
    blocks = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2, 2))  # [B, H, W, C, 2, 2]
    return blocks.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def average_channels(x: Tensor, channels: int, shortcut: Shortcut) -> Tensor:
    """Reduce [B, n * channels, H, W] to [B, channels, H, W] by averaging n channels at a time."""
    x = x.permute(0, 2, 3, 1)
    if shortcut == "released-code":
        means = x.unflatten(3, (channels, -1)).mean(dim=4)  # n neighbours
    else:
        means = x.unflatten(3, (-1, channels)).mean(dim=3)  # one from each n-th part
    return means.permute(0, 3, 1, 2)


def duplicate_channels(x: Tensor, channels: int, shortcut: Shortcut) -> Tensor:
    """Expand [B, channels / n, H, W] to [B, channels, H, W] by repeating each channel n times."""
    repeats = channels // x.shape[1]
    x = x.permute(0, 2, 3, 1)
    if shortcut == "released-code":
        copies = x.unsqueeze(4).expand(-1, -1, -1, -1, repeats)
    else:
        copies = x.unsqueeze(3).expand(-1, -1, -1, repeats, -1)
    return copies.flatten(3).permute(0, 3, 1, 2)


def down_shortcut(x: Tensor, channels: int, shortcut: Shortcut) -> Tensor:
    """Map [B, C, H, W] to [B, channels, H/2, W/2] by space to channel and averaging."""
    return average_channels(space_to_channel(x), channels, shortcut)


def up_shortcut(x: Tensor, channels: int, shortcut: Shortcut) -> Tensor:
    """Map [B, C, H, W] to [B, channels, 2H, 2W] by duplicating and channel to space."""
    if shortcut == "released-code":
        return channel_to_space(duplicate_channels(x, 4 * channels, shortcut))
    return duplicate_channels(channel_to_space(x), channels, shortcut)


def require_multiple(name: str, larger: int, smaller: int) -> None:
    """Raise ``ValueError`` unless one number of channels is a multiple of the other."""
    if larger % smaller:
        raise ValueError(f"{name}: {larger} channels cannot be shared out evenly among {smaller}")


# --- Blocks -----------------------------------------------------------------------------------------------------------


def at_least_fp32(x: Tensor) -> Tensor:
    """Return bf16 and fp16 as fp32, and anything else unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> AbstractContextManager:
    """Return a context without autocast (the meta device has none)."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


class _RMSNorm(torch.autograd.Function):
    """Norm over the last dimension; saves its input and one fp32 number per pixel for the backward pass.

    For devices where torch has no fused operator: there, its own would save twice as much.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):  # [..., C], [C], [C]
        precise = torch.promote_types(x.dtype, torch.float32)
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise).square()
        inverse = torch.rsqrt(squares / x.shape[-1] + eps)
        ctx.save_for_backward(x, inverse, weight)
        return torch.addcmul(bias.to(x.dtype), x * inverse.to(x.dtype), weight.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, inverse, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        gradient, normed = at_least_fp32(gradient), x * inverse
        if ctx.needs_input_grad[0]:
            scaled = gradient * weight
            of_x = torch.addcmul(scaled, normed, (scaled * normed).mean(-1, keepdim=True), value=-1)
            of_x = of_x.mul_(inverse).to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = (gradient * normed).flatten(0, -2).sum(0)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.flatten(0, -2).sum(0)
        return of_x, of_weight, of_bias, None


def fused_rms_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the norm of x [..., C] over its last dimension, by torch's operator, which CUDA has as one kernel.

    Outside autocast, which would have it computed and kept in fp32; the kernel's sums are fp32 in any case.
    """
    with full_precision(x):
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps) + bias.to(x.dtype)


class RMSNorm2d(nn.Module):
    """Root-mean-square norm over the channels of each pixel, with weight and bias; the mean is computed in fp32."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        norm = fused_rms_norm if x.device.type == "cuda" else _RMSNorm.apply
        return norm(x.permute(0, 2, 3, 1), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` that saves nothing for the backward pass in evaluation mode with frozen parameters."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        if self.training or self.weight.requires_grad or self.bias.requires_grad:
            return super().forward(x)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])


NORMS = {"BatchNorm": BatchNorm2d, "RMSNorm": RMSNorm2d}
ACTIVATIONS = {"ReLU": nn.ReLU, "SiLU": nn.SiLU}
ACTIVATION_OF_NORM = {"BatchNorm": "ReLU", "RMSNorm": "SiLU"}  # in every released model


class ResBlock(nn.Module):
    """Convolution, activation, convolution, norm; identity shortcut, nothing after the sum."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1)
        self.act = ACTIVATIONS[ACTIVATION_OF_NORM[norm]]()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = NORMS[norm](channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x + self.norm(self.conv2(self.act(self.conv1(x))))


def relu_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-15) -> Tensor:
    """Compute ReLU attention [B, heads, d, N] of q, k, v of that shape; EfficientViT (arXiv 2205.14756), equation 2.

    Computed in fp32, since sums over N overflow fp16, whose smallest number is larger than eps. Multiplying keys with
    values first costs N * d * d; where N <= d the scores are computed first, N * N * d, with the same result.
    """
    q, k, v = at_least_fp32(q).relu(), at_least_fp32(k).relu(), at_least_fp32(v)
    with full_precision(q):
        if q.shape[-1] <= q.shape[-2]:
            scores = k.transpose(-1, -2) @ q  # [B, heads, N keys, N queries]
            return v @ (scores / (scores.sum(dim=-2, keepdim=True) + eps))
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # the row of ones sums the scores
        attended = (v @ k.transpose(-1, -2)) @ q  # [B, heads, d + 1, N]
        return attended[:, :, :-1] / (attended[:, :, -1:] + eps)


class MultiScale(nn.Module):
    """An additional scale of queries, keys and values: depth-wise convolution, then mixing within each head."""

    def __init__(self, channels: int, heads: int, kernel_size: int):
        super().__init__()
        self.proj_in = Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.proj_out = Conv2d(channels, channels, 1, groups=3 * heads, bias=False)

    def forward(self, qkv: Tensor) -> Tensor:  # [B, 3C, H, W]
        return self.proj_out(self.proj_in(qkv))


class LiteMLA(nn.Module):
    """Multi-head linear attention with a residual connection, on one or more scales."""

    def __init__(self, channels: int, norm: str, head_dim: int, kernel_sizes: list[int]):
        super().__init__()
        require_multiple("head_dim of the EfficientViT blocks", channels, head_dim)
        self.head_dim = head_dim
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_qkv_multiscale = nn.ModuleList(
            MultiScale(3 * channels, channels // head_dim, kernel_size) for kernel_size in kernel_sizes
        )
        self.to_out = nn.Linear(channels * (1 + len(kernel_sizes)), channels, bias=False)
        self.norm_out = NORMS[norm](channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)  # [B, N, C]
        weights = torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])
        qkv = F.linear(tokens, weights).transpose(1, 2).unflatten(2, size)  # [B, 3C, H, W]
        qkv = torch.cat([qkv, *(scale(qkv) for scale in self.to_qkv_multiscale)], dim=1)  # [B, 3C * scales, H, W]
        # Upstream a single projection makes q, k, v head by head: the three layers are its thirds, not q, k and v.
        heads = qkv.flatten(2).unflatten(1, (-1, 3 * self.head_dim))  # [B, heads * scales, 3d, N]
        attended = relu_attention(*heads.chunk(3, dim=2)).to(x.dtype)  # [B, heads * scales, d, N]
        out = self.to_out(attended.flatten(1, 2).transpose(1, 2)).transpose(1, 2)  # [B, C, N]
        return x + self.norm_out(out.unflatten(2, size))


class _Gate(torch.autograd.Function):
    """First half of the channels times the SiLU of the second half; saves only its input for the backward pass."""

    @staticmethod
    def forward(ctx, x):  # [B, 2C, H, W]
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=1)
        return F.silu(gate).mul_(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        value, gate = ctx.saved_tensors[0].chunk(2, dim=1)
        return torch.cat([gradient * F.silu(gate), torch.ops.aten.silu_backward(gradient * value, gate)], dim=1)


class GLUMBConv(nn.Module):
    """Gated inverted bottleneck with a residual connection: 1x1 to 8C, depth-wise 3x3, value times gate, 1x1 to C."""

    def __init__(self, channels: int, expand_ratio: int = 4):
        super().__init__()
        hidden = expand_ratio * channels
        self.conv_inverted = Conv2d(channels, 2 * hidden, 1)
        self.conv_depth = Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.conv_point = Conv2d(hidden, channels, 1, bias=False)
        self.norm = RMSNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        gated = _Gate.apply(self.conv_depth(F.silu(self.conv_inverted(x))))  # [B, 4C, H, W]
        return x + self.norm(self.conv_point(gated))


class EfficientViTBlock(nn.Module):
    """Global context by linear attention, then local context by convolutions."""

    def __init__(self, channels: int, norm: str, head_dim: int, kernel_sizes: list[int]):
        super().__init__()
        self.attn = LiteMLA(channels, norm, head_dim, kernel_sizes)
        self.conv_out = GLUMBConv(channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return self.conv_out(self.attn(x))


class TransformerBlock(nn.Module):
    """timm's vision transformer block (pre-norm, softmax attention, MLP) over the pixels of a map.

    It has no position embeddings: the surrounding convolutions encode positions, as for EfficientViT blocks.
    """

    def __init__(self, channels: int, head_dim: int):
        super().__init__()
        from timm.models.vision_transformer import Block  # a second to import, only for an ablation

        require_multiple("head_dim of the transformer blocks", channels, head_dim)
        self.block = Block(channels, num_heads=channels // head_dim, qkv_bias=True)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        tokens = self.block(x.flatten(2).transpose(1, 2))  # [B, N, C]
        return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])


def make_block(kind: str, channels: int, norm: str, head_dim: int, kernel_sizes: list[int]) -> nn.Module:
    """Build one block of a stage."""
    if kind == "ResBlock":
        return ResBlock(channels, norm)
    if kind == "TransformerBlock":
        return TransformerBlock(channels, head_dim)
    return EfficientViTBlock(channels, norm, head_dim, kernel_sizes)


BLOCKS = (ResBlock, EfficientViTBlock, TransformerBlock)


def zero_init_residual(block: ResBlock | EfficientViTBlock | TransformerBlock) -> None:
    """Zero-initialise the last layer of each residual branch, so that the block starts as the identity."""
    match block:
        case ResBlock():
            last_layers = [block.norm]
        case EfficientViTBlock():
            last_layers = [block.attn.norm_out, block.conv_out.norm]
        case TransformerBlock():
            last_layers = [block.block.attn.proj, block.block.mlp.fc2]
    for layer in last_layers:
        set_to_zero(layer)


class DownBlock(nn.Module):
    """Halves the size: convolution and space to channel (or a strided convolution), plus the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, method: str, shortcut: Shortcut):
        super().__init__()
        self.out_channels, self.method, self.shortcut = out_channels, method, shortcut
        if method == "pixel-unshuffle":
            require_multiple("pixel-unshuffle", out_channels, 4)
            self.conv = Conv2d(in_channels, out_channels // 4, 3, padding=1)
        else:
            self.conv = Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        if shortcut != "none":
            require_multiple("shortcut of a down block", 4 * in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        out = self.conv(x)
        if self.method == "pixel-unshuffle":
            out = space_to_channel(out)  # [B, out, H/2, W/2]
        return out if self.shortcut == "none" else out + down_shortcut(x, self.out_channels, self.shortcut)


class UpBlock(nn.Module):
    """Doubles the size: convolution and channel to space (or nearest neighbour and convolution), plus the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, method: str, shortcut: Shortcut):
        super().__init__()
        self.out_channels, self.method, self.shortcut = out_channels, method, shortcut
        self.conv = Conv2d(in_channels, (4 if method == "pixel-shuffle" else 1) * out_channels, 3, padding=1)
        if shortcut != "none":
            require_multiple("shortcut of an up block", 4 * out_channels, in_channels)
        if shortcut == "paper-text":
            require_multiple("channel to space in the shortcut of an up block", in_channels, 4)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        if self.method == "pixel-shuffle":
            out = channel_to_space(self.conv(x))  # [B, out, 2H, 2W]
        else:
            out = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return out if self.shortcut == "none" else out + up_shortcut(x, self.out_channels, self.shortcut)
