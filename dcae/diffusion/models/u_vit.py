# SPDX-License-Identifier: Apache-2.0
"""U-ViT: a transformer with time and class tokens and long skip connections (Bao et al. 2023, arXiv 2209.12152).

Written on timm's attention and MLP. Structure and initialisation follow the authors' release (baofff/U-ViT@ce55170),
without its last 3x3 convolution by default, as in DC-AE; the sizes S, M, L, H and DC-AE's 2B are in
``config/diffusion/``. DC-AE's release computes attention in float32 under autocast; here it follows autocast.
"""

from __future__ import annotations

import torch
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcae.diffusion.models.embeddings import LabelEmbedding, sinusoid, unpatchify


class UViTBlock(nn.Module):
    """Pre-norm transformer block; an out-block first merges the tokens of its in-block by a linear layer."""

    def __init__(self, width: int, heads: int, skip: bool):
        super().__init__()
        self.skip_linear = nn.Linear(2 * width, width) if skip else None
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads=heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map tokens and skip [B, N, D] to [B, N, D]."""
        if self.skip_linear is not None:
            tokens = self.skip_linear(torch.cat([tokens, skip], dim=-1))
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class UViT(nn.Module):
    """Predicts the noise, or a velocity (USiT). ``depth`` counts in-blocks and out-blocks, without the middle one.

    Attributes:
        null_label: the label for "no class".
        tokens: number of image tokens; the sequence also has a time token and, with classes, a label token.
        first_timestep: timestep of the first (least noisy) step; U-ViT counts 1 ... 1000.
        gradient_checkpointing: recompute the blocks' activations in the backward pass.
        tokens_follow_autocast: keep tokens in autocast's precision, too, instead of float32, with larger rounding
            errors. Training UViT-H on 256 images of 1024 tokens with checkpointing is counted as 43.9 GiB instead of
            68.1 (the paper prints 54.1).
    """

    first_timestep = 1

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        latent_channels: int,
        latent_size: int,
        patch_size: int,
        classes: int,
        final_convolution: bool = False,
    ):
        super().__init__()
        self.width = width
        self.patch_size = patch_size
        self.tokens = (latent_size // patch_size) ** 2
        self.out_channels = latent_channels
        self.null_label = classes
        self.gradient_checkpointing = self.tokens_follow_autocast = False

        self.patch_embedding = PatchEmbed(latent_size, patch_size, latent_channels, width)
        self.label_embedding = LabelEmbedding(classes, width) if classes else None
        extra_tokens = 2 if classes else 1
        self.position_embedding = nn.Parameter(torch.zeros(1, extra_tokens + self.tokens, width))
        self.in_blocks = nn.ModuleList(UViTBlock(width, heads, skip=False) for _ in range(depth // 2))
        self.mid_block = UViTBlock(width, heads, skip=False)
        self.out_blocks = nn.ModuleList(UViTBlock(width, heads, skip=True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, patch_size**2 * latent_channels)
        self.final_convolution = (
            nn.Conv2d(latent_channels, latent_channels, 3, padding=1) if final_convolution else None
        )
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _run(self, block: UViTBlock, *tokens: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *tokens, use_reentrant=False)
        return block(*tokens)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map noisy latents [B, c, h, w], timesteps [B], labels [B] in 0 ... classes to [B, c, h, w].

        Timesteps are 1 ... 1000, or times in [0, 1] for a predicted velocity. An unconditional network ignores labels.
        """
        patches = self.patch_embedding(latents)  # [B, N, D]
        sequence = [sinusoid(timesteps, self.width).to(patches.dtype)[:, None], patches]
        if self.label_embedding is not None:
            sequence.insert(0, self.label_embedding(labels)[:, None].to(patches.dtype))
        tokens = torch.cat(sequence, dim=1)  # [B, 2 + N, D]
        positions = self.position_embedding
        tokens = tokens + (positions.to(tokens.dtype) if self.tokens_follow_autocast else positions)

        skips = []
        for block in self.in_blocks:
            tokens = self._run(block, tokens)
            skips.append(tokens)
        tokens = self._run(self.mid_block, tokens)
        for block in self.out_blocks:
            tokens = self._run(block, tokens, skips.pop())

        prediction = unpatchify(self.output(self.norm(tokens))[:, -self.tokens :], self.patch_size)
        return prediction if self.final_convolution is None else self.final_convolution(prediction)
