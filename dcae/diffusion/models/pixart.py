# SPDX-License-Identifier: Apache-2.0
"""PixArt-α: a DiT with one modulation for all blocks, conditioned on captions (Chen et al. 2023, arXiv 2310.00426).

The network is diffusers'; the initialisation is that of the authors' release (PixArt-alpha/PixArt-alpha
``diffusion/model/nets/PixArt.py``), which diffusers leaves to PyTorch. The size XL is in ``config/diffusion/``.
"""

from __future__ import annotations

from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from torch import Tensor, nn

from dcae.diffusion.captions.dataset import Captions


class PixArt(nn.Module):
    """Predicts the noise and, in the second half of the channels, the variance as a position in its range.

    Attributes:
        null_label: 0, there are no classes; "no caption" is the empty caption (module ``conditions``).
        caption_channels: of the captions' embeddings.
        first_timestep: timestep of the first (least noisy) step; PixArt-α counts 0 ... 999.
        gradient_checkpointing: recompute the blocks' activations in the backward pass.
    """

    first_timestep = 0
    null_label = 0

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        latent_channels: int,
        latent_size: int,
        patch_size: int,
        caption_channels: int,
        interpolation_scale: float,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.out_channels = 2 * latent_channels
        self.caption_channels = caption_channels
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            in_channels=latent_channels,
            out_channels=self.out_channels,
            num_layers=depth,
            cross_attention_dim=width,
            sample_size=latent_size,
            patch_size=patch_size,
            interpolation_scale=interpolation_scale,
            caption_channels=caption_channels,
            use_additional_conditions=False,
        )
        self._initialise()

    @property
    def gradient_checkpointing(self) -> bool:
        return self.transformer.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        if on:
            self.transformer.enable_gradient_checkpointing()
        else:
            self.transformer.disable_gradient_checkpointing()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for block in self.transformer.transformer_blocks:
            # The release has joint layers for q, k, v and for k, v, whose outputs count together in Xavier's bound.
            for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
                nn.init.xavier_uniform_(layer.weight, gain=(2 / 4) ** 0.5)
            for layer in (block.attn2.to_k, block.attn2.to_v):
                nn.init.xavier_uniform_(layer.weight, gain=(2 / 3) ** 0.5)
            nn.init.zeros_(block.attn2.to_out[0].weight)
        projection = self.transformer.pos_embed.proj
        nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
        time, captions = self.transformer.adaln_single, self.transformer.caption_projection
        embedder = time.emb.timestep_embedder
        for layer in (embedder.linear_1, embedder.linear_2, time.linear, captions.linear_1, captions.linear_2):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.transformer.proj_out.weight)

    def forward(self, latents: Tensor, timesteps: Tensor, captions: Captions) -> Tensor:
        """Map noisy latents [B, c, h, w], timesteps [B] in 0 ... 999, captions [B, T, C] and [B, T] to [B, 2c, h, w].

        Raises:
            ValueError: captions are missing or have another number of channels.
        """
        if not isinstance(captions, Captions):
            raise ValueError(f"pixart is conditioned on captions (embeddings and mask), got {type(captions).__name__}")
        if captions.embeddings.shape[-1] != self.caption_channels:
            raise ValueError(
                f"caption_channels is {self.caption_channels}, the captions have {captions.embeddings.shape[-1]}: "
                "embed them with the entry's text_encoder"
            )
        return self.transformer(
            latents,
            encoder_hidden_states=captions.embeddings.to(latents.dtype),
            timestep=timesteps,
            encoder_attention_mask=captions.mask,
            return_dict=False,
        )[0]
