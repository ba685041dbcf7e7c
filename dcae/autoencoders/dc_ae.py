# SPDX-License-Identifier: Apache-2.0
"""DC-AE: the deep compression autoencoder (paper section 3.1 and figure 4; upstream mit-han-lab/efficientvit).

Parameters have the names and shapes of diffusers' ``AutoencoderDC``, so that weights go both ways without any mapping.
"""

from __future__ import annotations

from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder
from dcae.autoencoders.dc_ae_blocks import (
    ACTIVATIONS,
    DownBlock,
    RMSNorm2d,
    UpBlock,
    average_channels,
    duplicate_channels,
    make_block,
    require_multiple,
)
from dcae.autoencoders.layers import first, last
from dcae.benchmark.entries import DCAEEntry


def first_stage(depths: list[int]) -> int:
    """The stage next to the image: 0, or 1 if stage 0 has depth 0, and then the image's own layer changes the size."""
    if min(depths[1:], default=0) < 1:
        raise ValueError(f"DC-AE needs two or more stages, and depth 0 is for the first alone, got depths {depths}")
    return 0 if depths[0] > 0 else 1


class Encoder(nn.Module):
    """Images [B, 3, H, W] to latents [B, c, H/f, W/f]."""

    def __init__(self, entry: DCAEEntry):
        super().__init__()
        stages, depths = entry.stages, entry.stages.encoder_depths
        start = first_stage(depths)
        scales = stages.encoder_multiscale or [[]] * len(depths)
        self.latent_channels, self.shortcut = entry.latent_channels, entry.shortcut

        if start == 0:
            self.conv_in = nn.Conv2d(3, stages.widths[0], 3, padding=1)
        else:
            self.conv_in = DownBlock(3, stages.widths[1], entry.downsample, "none")
        self.down_blocks = nn.ModuleList(nn.Sequential() for _ in depths)
        for i in range(start, len(depths)):
            width = stages.widths[i]
            for _ in range(depths[i]):
                block = make_block(stages.encoder_blocks[i], width, "RMSNorm", entry.head_dim, scales[i])
                self.down_blocks[i].append(block)
            if i + 1 < len(depths):
                self.down_blocks[i].append(DownBlock(width, stages.widths[i + 1], entry.downsample, entry.shortcut))
        self.conv_out = nn.Conv2d(stages.widths[-1], entry.latent_channels, 3, padding=1)
        if entry.shortcut != "none":
            require_multiple("shortcut of the latent head", stages.widths[-1], entry.latent_channels)

    def forward(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        x = self.conv_in(images)
        for stage in self.down_blocks:
            x = stage(x)
        latents = self.conv_out(x)  # [B, c, H/f, W/f]
        if self.shortcut == "none":
            return latents
        return latents + average_channels(x, self.latent_channels, self.shortcut)

    def blocks(self) -> list[nn.Module]:
        """Blocks from image to latents, without the first and the last convolution."""
        return [block for stage in self.down_blocks for block in stage]


class Decoder(nn.Module):
    """Latents [B, c, H/f, W/f] to images [B, 3, H, W]."""

    def __init__(self, entry: DCAEEntry):
        super().__init__()
        stages, depths = entry.stages, entry.stages.decoder_depths
        start = first_stage(depths)
        scales = stages.decoder_multiscale or [[]] * len(depths)
        self.last_width, self.shortcut = stages.widths[-1], entry.shortcut

        self.conv_in = nn.Conv2d(entry.latent_channels, stages.widths[-1], 3, padding=1)
        self.up_blocks = nn.ModuleList(nn.Sequential() for _ in depths)
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
            self.conv_out = nn.Conv2d(stages.widths[0], 3, 3, padding=1)
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
        """Blocks from latents to image, without the first and the last convolution."""
        return [block for stage in reversed(self.up_blocks) for block in stage]


class DCAE(Autoencoder):
    """DC-AE as an entry describes it, with random weights.

    Raises:
        ValueError: widths or depths do not fit together.
    """

    def __init__(self, entry: DCAEEntry):
        super().__init__(entry.spatial_compression, entry.latent_channels, entry.latent_scale, entry.latent_shift)
        self.entry = entry
        self.encoder = Encoder(entry)
        self.decoder = Decoder(entry)

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return self.encoder(images)  # [B, c, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        return self.decoder(latents)  # [B, 3, H, W]

    def middle_layers(self, extra_blocks: int = 0) -> list[nn.Module]:
        """What phase 2 trains: both latent heads, and as many neighbouring blocks on either side as asked for."""
        before, after = self.encoder.blocks(), self.decoder.blocks()
        return [*last(before, extra_blocks), self.encoder.conv_out, self.decoder.conv_in, *first(after, extra_blocks)]

    def decoder_head(self, extra_blocks: int = 0) -> list[nn.Module]:
        """What phase 3 trains: output norm and convolution, and as many blocks before them as asked for."""
        return [*last(self.decoder.blocks(), extra_blocks), self.decoder.norm_out, self.decoder.conv_out]
