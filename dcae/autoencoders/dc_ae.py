# SPDX-License-Identifier: Apache-2.0
"""DC-AE: the deep compression autoencoder (paper section 3.1 and figure 4; upstream mit-han-lab/efficientvit).

Parameters have the names and shapes of diffusers' ``AutoencoderDC``, so that weights are interchangeable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcae.autoencoders.contract import Autoencoder, first, last, require_multiple_sides
from dcae.autoencoders.convolution import Conv2d
from dcae.autoencoders.dc_ae_blocks import (
    ACTIVATIONS,
    BLOCKS,
    DownBlock,
    RMSNorm2d,
    UpBlock,
    average_channels,
    duplicate_channels,
    make_block,
    require_multiple,
    zero_init_residual,
)
from dcae.benchmark.entries import DCAEEntry

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


def first_stage(depths: list[int]) -> int:
    """Return the stage next to the image: 0, or 1 if stage 0 has depth 0 and the image layer changes the size."""
    if min(depths[1:], default=0) < 1:
        raise ValueError(f"DC-AE needs two or more stages, and depth 0 is for the first alone, got depths {depths}")
    return 0 if depths[0] > 0 else 1


class Stage(nn.Sequential):
    """Sequential blocks; ``gradient_checkpointing`` keeps only their input for the backward pass."""

    gradient_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        if not (self.gradient_checkpointing and len(self) and torch.is_grad_enabled()):
            return super().forward(x)
        contexts = lambda: (nullcontext(), self._without_running_statistics())  # noqa: E731
        return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)

    @contextmanager
    def _without_running_statistics(self) -> Iterator[None]:
        """Keep the second forward pass of a batch out of BatchNorm's statistics."""
        norms = [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms if norm.training]
        for norm, _, _ in before:
            norm.momentum = 0.0  # without statistics, other tensors would be saved than in the first pass
        try:
            yield
        finally:  # torch ends the second pass by an exception once it has every tensor
            for norm, momentum, batches in before:
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(batches)


class Encoder(nn.Module):
    """Maps images [B, 3, H, W] to latents [B, c, H/f, W/f], or to their means and log-variances [B, 2c, H/f, W/f]."""

    def __init__(self, entry: DCAEEntry):
        super().__init__()
        stages, depths = entry.stages, entry.stages.encoder_depths
        start = first_stage(depths)
        scales = stages.encoder_multiscale or [[]] * len(depths)
        self.latent_channels, self.shortcut = entry.latent_channels, entry.shortcut

        if start == 0:
            self.conv_in = Conv2d(3, stages.widths[0], 3, padding=1)
        else:
            self.conv_in = DownBlock(3, stages.widths[1], entry.downsample, "none")
        self.down_blocks = nn.ModuleList(Stage() for _ in depths)
        for i in range(start, len(depths)):
            width = stages.widths[i]
            for _ in range(depths[i]):
                block = make_block(stages.encoder_blocks[i], width, "RMSNorm", entry.head_dim, scales[i])
                self.down_blocks[i].append(block)
            if i + 1 < len(depths):
                self.down_blocks[i].append(DownBlock(width, stages.widths[i + 1], entry.downsample, entry.shortcut))
        out_channels = (2 if entry.variational else 1) * entry.latent_channels
        self.conv_out = Conv2d(stages.widths[-1], out_channels, 3, padding=1)
        if entry.shortcut != "none":
            require_multiple("shortcut of the latent head", stages.widths[-1], entry.latent_channels)

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        x = self.conv_in(images)
        for stage in self.down_blocks:
            x = stage(x)
        latents, *log_variance = self.conv_out(x).split(self.latent_channels, dim=1)
        if self.shortcut != "none":
            latents = latents + average_channels(x, self.latent_channels, self.shortcut)
        return torch.cat([latents, *log_variance], dim=1) if log_variance else latents

    def blocks(self) -> list[nn.Module]:
        """Return the blocks from image to latents, without the first and last convolution."""
        return [block for stage in self.down_blocks for block in stage]


class Decoder(nn.Module):
    """Maps latents [B, c, H/f, W/f] to images [B, 3, H, W]."""

    def __init__(self, entry: DCAEEntry):
        super().__init__()
        stages, depths = entry.stages, entry.stages.decoder_depths
        start = first_stage(depths)
        scales = stages.decoder_multiscale or [[]] * len(depths)
        self.last_width, self.shortcut = stages.widths[-1], entry.shortcut

        self.conv_in = Conv2d(entry.latent_channels, stages.widths[-1], 3, padding=1)
        self.up_blocks = nn.ModuleList(Stage() for _ in depths)
        for i in range(start, len(depths)):
            width = stages.widths[i]
            if i + 1 < len(depths):
                self.up_blocks[i].append(UpBlock(stages.widths[i + 1], width, entry.upsample, entry.shortcut))
            for _ in range(depths[i]):
                norm = stages.decoder_norms[i]
                block = make_block(stages.decoder_blocks[i], width, norm, entry.head_dim, scales[i])
                self.up_blocks[i].append(block)
        self.norm_out = RMSNorm2d(stages.widths[start])
        self.act = ACTIVATIONS[entry.decoder_output_act]()
        if start == 0:
            self.conv_out = Conv2d(stages.widths[0], 3, 3, padding=1)
        else:
            self.conv_out = UpBlock(stages.widths[1], 3, entry.upsample, "none")

    def forward(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        x = self.conv_in(latents)
        if self.shortcut != "none":
            x = x + duplicate_channels(latents, self.last_width, self.shortcut)
        for stage in reversed(self.up_blocks):
            x = stage(x)
        return self.conv_out(self.act(self.norm_out(x)))  # [B, 3, H, W]

    def blocks(self) -> list[nn.Module]:
        """Return the blocks from latents to image, without the first and last convolution."""
        return [block for stage in reversed(self.up_blocks) for block in stage]


class DCAE(Autoencoder):
    """DC-AE with the architecture of an entry and random weights.

    Raises:
        ValueError: widths or depths do not match.
    """

    def __init__(self, entry: DCAEEntry):
        super().__init__(entry.spatial_compression, entry.latent_channels, entry.latent_scale, entry.latent_shift)
        self.entry = entry
        self.latent_posterior = entry.posterior
        self.encoder = Encoder(entry)
        self.decoder = Decoder(entry)
        if entry.zero_init_residual:
            for module in self.modules():
                if isinstance(module, BLOCKS):
                    zero_init_residual(module)
        self.to(memory_format=torch.channels_last)  # faster than torch's default on CPUs and on GPUs

    def encode(self, images: Tensor) -> Tensor:
        """Return latents [B, c, H/f, W/f] of images [B, 3, H, W]; a variational DC-AE returns posterior means.

        Raises:
            ValueError: height or width is not a multiple of f.
        """
        return self._encode(images)[:, : self.latent_channels]

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Return the posterior of images [B, 3, H, W], with ``mode()``, ``sample()`` and ``kl()``.

        Raises:
            TypeError: the entry is not ``variational``.
            ValueError: as ``encode``.
        """
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        if not self.entry.variational:
            raise TypeError(f"{self.entry.name} has no posterior: its entry does not say variational: true")
        return DiagonalGaussianDistribution(self._encode(images))

    def _encode(self, images: Tensor) -> Tensor:
        require_multiple_sides(images, self.spatial_compression)
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        return self.decoder(latents)  # [B, 3, H, W]

    def set_gradient_checkpointing(self, stages: bool | list[int]) -> None:
        """Recompute activations in the backward pass: less memory, a third more arithmetic.

        Args:
            stages: stages of encoder and decoder, or true or false for all of them.

        Raises:
            ValueError: no such stage.
        """
        count = len(self.encoder.down_blocks)
        chosen = stages if isinstance(stages, list) else list(range(count)) if stages else []
        unknown = sorted(set(chosen) - set(range(count)))
        if unknown:
            raise ValueError(
                f"gradient_checkpointing: {self.entry.name} has the stages 0 to {count - 1}, got {unknown}"
            )
        for blocks in (self.encoder.down_blocks, self.decoder.up_blocks):
            for i, stage in enumerate(blocks):
                stage.gradient_checkpointing = i in chosen

    def middle_layers(self, extra_blocks: int = 0) -> list[nn.Module]:
        """Return both latent heads and ``extra_blocks`` neighbouring blocks on either side (phase 2)."""
        before, after = self.encoder.blocks(), self.decoder.blocks()
        return [*last(before, extra_blocks), self.encoder.conv_out, self.decoder.conv_in, *first(after, extra_blocks)]

    def decoder_head(self, extra_blocks: int = 0) -> list[nn.Module]:
        """Return output norm and convolution, and ``extra_blocks`` blocks before them (phase 3)."""
        return [*last(self.decoder.blocks(), extra_blocks), self.decoder.norm_out, self.decoder.conv_out]
