# SPDX-License-Identifier: Apache-2.0
"""From an entry and the shape of the latents to a denoiser."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn

from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion.dit import DiT
from dcae.diffusion.u_vit import UViT

# The fields of an entry that decide the shape of the weights.
ARCHITECTURE = ("kind", "depth", "width", "heads", "final_convolution")


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

    def __post_init__(self):
        if self.patch_size < 1 or self.latent_size % self.patch_size:
            raise ValueError(
                f"patch_size ({self.patch_size}) must divide the latent size ({self.latent_size} x {self.latent_size})"
            )
        if self.latent_channels < 1 or self.classes < 0:
            raise ValueError(f"got latent_channels={self.latent_channels} and classes={self.classes}")
        if self.kind == "dit" and (self.final_convolution or self.width % 4):
            raise ValueError(f"dit has no final_convolution and needs a width that is a multiple of 4, got {self}")


def denoiser_from_config(config: DenoiserConfig) -> nn.Module:
    """The denoiser, freshly initialised from torch's global random generator; ``config`` is kept as its attribute."""
    fields = asdict(config)
    kind, final_convolution = fields.pop("kind"), fields.pop("final_convolution")
    if kind == "dit":
        denoiser = DiT(**fields)
    elif kind == "u-vit":
        denoiser = UViT(**fields, final_convolution=final_convolution)
    else:
        raise ValueError(f"kind must be dit or u-vit, got {kind!r}")
    denoiser.config = config
    return denoiser


def build_denoiser(
    entry: DiffusionEntry, latent_channels: int, latent_size: int, patch_size: int, classes: int
) -> nn.Module:
    """The denoiser of an entry for latents [B, latent_channels, latent_size, latent_size].

    ``classes=0`` builds an unconditional network. Its ``forward(latents, timesteps, labels)`` returns
    [B, out_channels, h, w]: twice the latent channels for DiT, as many as the latent channels for U-ViT.

    Raises:
        ValueError: ``patch_size`` does not divide ``latent_size``.
    """
    architecture = {field: getattr(entry, field) for field in ARCHITECTURE}
    return denoiser_from_config(
        DenoiserConfig(
            **architecture,
            latent_channels=latent_channels,
            latent_size=latent_size,
            patch_size=patch_size,
            classes=classes,
        )
    )
