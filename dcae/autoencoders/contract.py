# SPDX-License-Identifier: Apache-2.0
"""The contract that every autoencoder keeps, and how its latents are normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import AutoencoderFields, Posterior

PerChannel = float | list[float]


class Autoencoder(nn.Module):
    """Base class of this project's autoencoders. A user's own class need not inherit from it.

    Attributes:
        spatial_compression: f, the ratio of image side to latent side.
        latent_channels: c.
        latent_scale: multiplies latents before a diffusion model sees them, a number or one per channel; ``None``
            until it is known: from the entry, from released weights, or measured when training ends.
        latent_shift: subtracted before scaling, a number or one per channel.
        latent_posterior: what diffusion models are trained on: the ``mode`` of the posterior, which is what ``encode``
            gives of an autoencoder without one, a ``sample`` drawn once for each image, or its ``moments``, of which
            every training step draws anew.
        released_file: the file of released weights that were loaded; ``None`` for weights of any other origin.
    """

    latent_posterior: Posterior = "mode"
    released_file: Path | None = None

    def __init__(
        self,
        spatial_compression: int,
        latent_channels: int,
        latent_scale: PerChannel | None = None,
        latent_shift: PerChannel | None = None,
    ):
        super().__init__()
        self.spatial_compression = spatial_compression
        self.latent_channels = latent_channels
        self.latent_scale = latent_scale
        self.latent_shift = 0.0 if latent_shift is None else latent_shift

    def encode(self, images: Tensor) -> Tensor:
        """Latents [B, c, H/f, W/f], not normalised, of images [B, 3, H, W] in [-1, 1]."""
        raise NotImplementedError

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, each [B, c, H/f, W/f]; of variational autoencoders only."""
        posterior = self.posterior(images)
        return posterior.mean, posterior.std

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W], not clamped, of latents [B, c, H/f, W/f] that are not normalised."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions [B, 3, H, W]."""
        return self.decode(self.encode(images))


def require_multiple_sides(images: Tensor, spatial_compression: int) -> None:
    """Raises ``ValueError`` if height or width of images [..., H, W] is no multiple of f."""
    height, width = images.shape[-2:]
    if height % spatial_compression or width % spatial_compression:
        raise ValueError(
            f"images of {width} x {height} px cannot be encoded with f{spatial_compression}: both sides must be "
            f"multiples of {spatial_compression}; crop or resize them, or give padding in the autoencoder's entry"
        )


class Scaled(Protocol):
    """What knows how latents are normalised: an autoencoder, or a folder of its latents."""

    latent_scale: PerChannel | None
    latent_shift: PerChannel


def normalise(by: Scaled, latents: Tensor, out: Tensor | None = None) -> Tensor:
    """Latents as a diffusion model sees them: ``(latents - shift) * scale``, same shape; ``out`` may be the latents."""
    scale, shift = _scale_and_shift(by, latents)
    shifted = latents if isinstance(shift, float) and shift == 0 else torch.sub(latents, shift, out=out)
    return torch.mul(shifted, scale, out=out)


def denormalise(by: Scaled, latents: Tensor) -> Tensor:
    """The inverse of ``normalise``: latents as the decoder takes them."""
    scale, shift = _scale_and_shift(by, latents)
    return latents / scale + shift


def _scale_and_shift(by: Scaled, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
    if by.latent_scale is None:
        raise ValueError(
            "this autoencoder's latent_scale is unknown: train it (training measures the scale), "
            "or give latent_scale in its entry"
        )
    return _broadcastable(by.latent_scale, latents), _broadcastable(by.latent_shift, latents)


def _broadcastable(value: PerChannel | Tensor, latents: Tensor) -> Tensor | float:
    if isinstance(value, int | float):
        return value
    return torch.as_tensor(value, dtype=latents.dtype, device=latents.device).reshape(-1, 1, 1)


@torch.no_grad()
def check(autoencoder: nn.Module, entry: AutoencoderFields) -> None:
    """Hold code that this project did not write against its entry, with a small black image.

    Raises:
        ConfigError: what is missing or differs, with the entry's name.
    """
    missing = [name for name in ("encode", "decode") if not callable(getattr(autoencoder, name, None))]
    numbers = ("spatial_compression", "latent_channels", "latent_scale", "latent_shift")
    missing += [name for name in numbers if not hasattr(autoencoder, name)]
    if not isinstance(autoencoder, nn.Module) or missing:
        what = f"has no {', '.join(missing)}" if missing else "is no torch.nn.Module"
        kind = type(autoencoder).__name__
        raise ConfigError(f"autoencoder {entry.name}: {kind} {what}; {__name__}.Autoencoder shows what is needed")
    for field in ("spatial_compression", "latent_channels"):
        stated, actual = getattr(entry, field), getattr(autoencoder, field)
        if stated != actual:
            raise ConfigError(f"autoencoder {entry.name}: {field} is {stated} in the entry, {actual} in the code")
    _check_shapes(autoencoder, entry)


def _check_shapes(autoencoder: nn.Module, entry: AutoencoderFields) -> None:
    side = min(entry.resolutions) if entry.resolutions else max(64, 2 * entry.spatial_compression)
    latent_side = side // entry.spatial_compression
    like = next(autoencoder.parameters(), torch.empty(0))
    images = torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device)
    modes = [(module, module.training) for module in autoencoder.modules()]
    autoencoder.eval()
    latents = autoencoder.encode(images)
    expected = (1, entry.latent_channels, latent_side, latent_side)
    if tuple(latents.shape) != expected:
        raise ConfigError(
            f"autoencoder {entry.name}: encode makes {tuple(latents.shape)} of images {tuple(images.shape)}, "
            f"its entry (f{entry.spatial_compression} c{entry.latent_channels}) says {expected}"
        )
    decoded = autoencoder.decode(latents)
    if decoded.shape != images.shape:
        raise ConfigError(
            f"autoencoder {entry.name}: decode makes {tuple(decoded.shape)} of latents {expected}, "
            f"expected {tuple(images.shape)}"
        )
    for module, training in modes:
        module.training = training
