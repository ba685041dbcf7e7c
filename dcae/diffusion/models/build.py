# SPDX-License-Identifier: Apache-2.0
"""Builds the denoiser of an entry for a shape of latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion.models.dit import DiT
from dcae.diffusion.models.u_vit import UViT

# Fields of an entry that decide the shape of the weights.
ARCHITECTURE = ("kind", "depth", "width", "heads", "final_convolution", "caption_channels", "interpolation_scale")


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that decides the shape of a denoiser's weights."""

    kind: str
    depth: int
    width: int
    heads: int
    final_convolution: bool
    latent_channels: int
    latent_size: int
    patch_size: int
    classes: int
    caption_channels: int | None = None
    interpolation_scale: float | None = None

    def __post_init__(self):
        if self.patch_size < 1 or self.latent_size % self.patch_size:
            raise ConfigError(
                f"patch_size ({self.patch_size}) must divide the latent size ({self.latent_size} x {self.latent_size})"
            )
        if self.latent_channels < 1 or self.classes < 0:
            raise ValueError(f"got latent_channels={self.latent_channels} and classes={self.classes}")
        if self.kind == "dit" and (self.final_convolution or self.width % 4):
            raise ValueError(f"dit has no final_convolution and needs a width that is a multiple of 4, got {self}")
        of_pixart = self.caption_channels is not None and self.interpolation_scale is not None
        if (self.kind == "pixart") != of_pixart or (of_pixart and (self.classes or self.final_convolution)):
            raise ValueError(
                f"pixart, and no other, has caption_channels and interpolation_scale, but no classes and no "
                f"final_convolution; got {self}"
            )


def denoiser_from_config(config: DenoiserConfig) -> nn.Module:
    """Build a denoiser, initialised from torch's global random generator, with ``config`` as an attribute."""
    fields = {name: value for name, value in asdict(config).items() if value is not None}
    kind, final_convolution = fields.pop("kind"), fields.pop("final_convolution")
    if kind == "dit":
        denoiser = DiT(**fields)
    elif kind == "u-vit":
        denoiser = UViT(**fields, final_convolution=final_convolution)
    elif kind == "pixart":
        from dcae.diffusion.models.pixart import PixArt  # slow to import: diffusers' transformers

        del fields["classes"]
        denoiser = PixArt(**fields)
    else:
        raise ValueError(f"kind must be dit, u-vit or pixart, got {kind!r}")
    denoiser.config = config
    return denoiser


def build_denoiser(
    entry: DiffusionEntry, latent_channels: int, latent_size: int, patch_size: int, classes: int
) -> nn.Module:
    """Build the denoiser of an entry for latents [B, latent_channels, latent_size, latent_size].

    ``classes`` are those of the data and used only by class-conditional networks; ``classes=0`` builds an unconditional
    one. Its ``forward(latents, timesteps, condition)`` returns [B, out_channels, h, w]: twice the latent
    channels for DiT and PixArt-α, as many as the latent channels for U-ViT. The condition is ``conditions.Condition``.

    Raises:
        ConfigError: ``patch_size`` does not divide ``latent_size``.
    """
    architecture = {field: getattr(entry, field) for field in ARCHITECTURE}
    return denoiser_from_config(
        DenoiserConfig(
            **architecture,
            latent_channels=latent_channels,
            latent_size=latent_size,
            patch_size=patch_size,
            classes=entry.classes(classes),
        )
    )
