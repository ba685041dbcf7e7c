# SPDX-License-Identifier: Apache-2.0
"""DiT: a transformer modulated by timestep and class (Peebles & Xie 2023, arXiv 2212.09748).

Written on timm's attention and MLP. Structure and initialisation follow the authors' release
(facebookresearch/DiT@ed81ce2); the sizes S, B, L and XL are in ``config/diffusion/``.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcae.diffusion.models.embeddings import LabelEmbedding, TimestepEmbedding, position_table, unpatchify
from dcae.initialisation import set_to_zero

LayerNorm = partial(nn.LayerNorm, elementwise_affine=False, eps=1e-6)


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift tokens [B, N, D] by [B, D] each."""
    return torch.addcmul(shift[:, None], tokens, 1 + scale[:, None])


class DiTBlock(nn.Module):
    """Attention and MLP with adaLN-Zero (section 3.2): the condition shifts, scales and gates both."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, act_layer=partial(nn.GELU, approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Map tokens [B, N, D] and condition [B, D] to [B, N, D]."""
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(condition).chunk(6, -1)
        attended = self.attn(modulate(self.norm1(tokens), shift_msa, scale_msa))
        tokens = torch.addcmul(tokens, gate_msa[:, None], attended)
        return torch.addcmul(tokens, gate_mlp[:, None], self.mlp(modulate(self.norm2(tokens), shift_mlp, scale_mlp)))


class FinalLayer(nn.Module):
    """Modulated norm and a linear layer to the values of a patch."""

    def __init__(self, width: int, patch_values: int):
        super().__init__()
        self.norm = LayerNorm(width)
        self.linear = nn.Linear(width, patch_values)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Map tokens [B, N, D] and condition [B, D] to [B, N, p * p * 2c]."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, -1)
        return self.linear(modulate(self.norm(tokens), shift, scale))


class DiT(nn.Module):
    """Predicts the noise and, in the second half of the channels, the variance as a position in its range.

    Attributes:
        null_label: the label for "no class".
        first_timestep: timestep of the first (least noisy) step; DiT counts 0 ... 999.
        gradient_checkpointing: recompute the blocks' activations in the backward pass.
    """

    first_timestep = 0

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        latent_channels: int,
        latent_size: int,
        patch_size: int,
        classes: int,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.out_channels = 2 * latent_channels
        self.null_label = classes
        self.gradient_checkpointing = False

        self.patch_embedding = PatchEmbed(latent_size, patch_size, latent_channels, width)
        self.register_buffer("positions", position_table(latent_size // patch_size, width), persistent=False)
        self.time_embedding = TimestepEmbedding(width)
        self.label_embedding = LabelEmbedding(classes, width) if classes else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch_size**2 * self.out_channels)
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        projection = self.patch_embedding.proj
        nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
        nn.init.zeros_(projection.bias)
        for table in [self.time_embedding.mlp[0], self.time_embedding.mlp[2], self.label_embedding]:
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        # Every block starts as the identity, and the prediction as zero.
        zeroed = [layer.adaLN_modulation[-1] for layer in [*self.blocks, self.final_layer]]
        for layer in [*zeroed, self.final_layer.linear]:
            set_to_zero(layer)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map noisy latents [B, c, h, w], timesteps [B] in 0 ... 999, labels [B] in 0 ... classes to [B, 2c, h, w].

        An unconditional network ignores labels.
        """
        tokens = self.patch_embedding(latents) + self.positions  # [B, N, D]
        condition = self.time_embedding(timesteps)  # [B, D]
        if self.label_embedding is not None:
            condition = condition + self.label_embedding(labels)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, use_reentrant=False)
            else:
                tokens = block(tokens, condition)
        return unpatchify(self.final_layer(tokens, condition), self.patch_size)
