# SPDX-License-Identifier: Apache-2.0
"""The contract of every autoencoder: encoding and decoding, normalised latents, and the layers of phases 2 and 3."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import AutoencoderFields, Posterior
from dcae.weights.catalogue import WeightsError

PerChannel = float | list[float]
FAR_OUTSIDE = 10.0  # of [-1, 1], as the values 0 to 255 are


class OutputError(ValueError):
    """An autoencoder returned something else than images or latents."""


class Autoencoder(nn.Module):
    """Base class of this project's autoencoders.

    A user's own class need not inherit from it: of an entry of kind ``python``, a module with ``encode`` and ``decode``
    is enough, and the attributes that it lacks come from the entry.

    Attributes:
        spatial_compression: f, the ratio of image side to latent side.
        latent_channels: c.
        latent_scale: factor of normalised latents, a number or one per channel; ``None`` until it is known from the
            entry, from released weights, or measured at the end of training.
        latent_shift: subtracted before scaling, a number or one per channel.
        latent_posterior: the latents that diffusion models are trained on: the ``mode`` of the posterior (the result of
            ``encode`` without one), a ``sample`` drawn once per image, or ``moments`` to sample anew at every step.
        released_file: file of the released weights; ``None`` for other weights (``hub.weights_sha256`` hashes it).
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
        """Return latents [B, c, H/f, W/f], not normalised, of images [B, 3, H, W] in [-1, 1]."""
        raise NotImplementedError

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the posterior, each [B, c, H/f, W/f]; variational autoencoders only."""
        posterior = self.posterior(images)
        return posterior.mean, posterior.std

    def decode(self, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W], not clamped, of latents [B, c, H/f, W/f] that are not normalised."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return reconstructions [B, 3, H, W]."""
        return self.decode(self.encode(images))


def require_multiple_sides(images: Tensor, spatial_compression: int) -> None:
    """Raise ``ValueError`` if height or width of images [..., H, W] is not a multiple of f."""
    height, width = images.shape[-2:]
    if height % spatial_compression or width % spatial_compression:
        raise ValueError(
            f"images of {width} x {height} px cannot be encoded with f{spatial_compression}: both sides must be "
            f"multiples of {spatial_compression}; crop or resize them, or set padding in the autoencoder's entry"
        )


# --- Normalised latents -----------------------------------------------------------------------------------------------


class Scaled(Protocol):
    """Carries latent scale and shift: an autoencoder, or a folder of its latents."""

    latent_scale: PerChannel | None
    latent_shift: PerChannel


def normalise(by: Scaled, latents: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the input of a diffusion model, ``(latents - shift) * scale``; ``out`` may be the latents themselves."""
    scale, shift = _scale_and_shift(by, latents)
    shifted = latents if isinstance(shift, float) and shift == 0 else torch.sub(latents, shift, out=out)
    return torch.mul(shifted, scale, out=out)


def denormalise(by: Scaled, latents: Tensor) -> Tensor:
    """Return the decoder's input of normalised latents; the inverse of ``normalise``."""
    scale, shift = _scale_and_shift(by, latents)
    return latents / scale + shift


def _scale_and_shift(by: Scaled, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
    if by.latent_scale is None:
        raise ValueError(
            "this autoencoder's latent_scale is unknown: train it (training measures the scale), "
            "or set latent_scale in its entry: a number, or measured"
        )
    return _broadcastable(by.latent_scale, latents), _broadcastable(by.latent_shift, latents)


def _broadcastable(value: PerChannel | Tensor, latents: Tensor) -> Tensor | float:
    if isinstance(value, int | float):
        return value
    return torch.as_tensor(value, dtype=latents.dtype, device=latents.device).reshape(-1, 1, 1)


# --- Layers that phases 2 and 3 train (paper section 3.2; the number of extra blocks is left open there) --------------


def middle_layers(autoencoder: nn.Module, extra_blocks: int = 0) -> list[nn.Module]:
    """Return the encoder's latent head and the decoder's input layers, in the order in which they run.

    Args:
        extra_blocks: number of additional blocks on either side.

    Raises:
        TypeError: the autoencoder has no method of this name.
        ValueError: it has fewer blocks.
    """
    return _layers(autoencoder, "middle_layers", extra_blocks)


def decoder_head(autoencoder: nn.Module, extra_blocks: int = 0) -> list[nn.Module]:
    """Return the decoder's output norm and convolution, after ``extra_blocks`` blocks; raises as ``middle_layers``."""
    return _layers(autoencoder, "decoder_head", extra_blocks)


def _layers(autoencoder: nn.Module, name: str, extra_blocks: int) -> list[nn.Module]:
    method = getattr(autoencoder, name, None)
    if method is None:
        raise TypeError(
            f"{type(autoencoder).__name__} has no method {name}(extra_blocks=0) -> list of modules: "
            "a recipe with phases that train only some layers needs one"
        )
    return method(extra_blocks)


def last(blocks: list[nn.Module], count: int) -> list[nn.Module]:
    """Return the last ``count`` blocks."""
    _require_blocks(blocks, count)
    return blocks[len(blocks) - count :]


def first(blocks: list[nn.Module], count: int) -> list[nn.Module]:
    """Return the first ``count`` blocks."""
    _require_blocks(blocks, count)
    return blocks[:count]


def _require_blocks(blocks: list[nn.Module], count: int) -> None:
    if not 0 <= count <= len(blocks):
        raise ValueError(f"extra_blocks must be between 0 and {len(blocks)}, got {count}")


# --- A user's own class against its entry -----------------------------------------------------------------------------


@torch.no_grad()
def check(autoencoder: nn.Module, entry: AutoencoderFields) -> None:
    """Check foreign code against its entry by encoding and decoding a small grey image.

    Raises:
        ConfigError: a method is missing or raises an error, or a value, shape, type or range is wrong.
    """
    missing = [name for name in ("encode", "decode") if not callable(getattr(autoencoder, name, None))]
    if missing:
        kind = type(autoencoder).__name__
        raise ConfigError(
            f"autoencoder {entry.name}: {kind} has no {', '.join(missing)}; see the contract in {__name__}.Autoencoder"
        )
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
    expected = (1, entry.latent_channels, latent_side, latent_side)
    latents = _called(autoencoder, "encode", images, entry, expected)
    decoded = _called(autoencoder, "decode", latents, entry, tuple(images.shape))
    for module, training in modes:
        module.training = training
    if decoded.is_meta or not decoded.isfinite().all():
        return
    if (typical := float(decoded.abs().float().median())) > FAR_OUTSIDE:
        raise ConfigError(
            f"autoencoder {entry.name}: decode returns values of about {typical:.3g} for a grey image; expected images "
            "in [-1, 1]"
        )


def _called(
    autoencoder: nn.Module, method: str, argument: Tensor, entry: AutoencoderFields, expected: tuple[int, ...]
) -> Tensor:
    """Return what ``encode`` or ``decode`` makes of an argument, checked."""
    where = f"autoencoder {entry.name}: {method}"
    try:
        return checked(getattr(autoencoder, method)(argument), expected)
    except (ConfigError, WeightsError, torch.OutOfMemoryError):
        raise
    except OutputError as error:
        shape = f"f{entry.spatial_compression} c{entry.latent_channels}"
        raise ConfigError(f"{where} returns {error} ({shape}), for {tuple(argument.shape)}") from error
    except Exception as error:  # foreign code
        hint = "; a video model needs `conventions: {video: true}`" if _is_video_model(autoencoder, entry) else ""
        raise ConfigError(f"{where} raises {told(error)}, given a tensor {tuple(argument.shape)}{hint}") from error


def _is_video_model(autoencoder: nn.Module, entry: AutoencoderFields) -> bool:
    """Return whether an autoencoder has three-dimensional convolutions that its entry does not tell of."""
    told_of = getattr(getattr(entry, "conventions", None), "video", False)
    return not told_of and any(isinstance(module, nn.Conv3d) for module in autoencoder.modules())


def checked(found: object, expected: tuple[int, ...]) -> Tensor:
    """Return the result of ``encode`` or ``decode`` if it is a floating-point tensor of this shape.

    Raises:
        OutputError: it is anything else.
    """
    if not isinstance(found, Tensor):
        raise OutputError(f"{_kind(found)}, expected a tensor {expected}")
    if tuple(found.shape) != expected:
        raise OutputError(f"{tuple(found.shape)}, expected {expected}")
    if not found.is_floating_point() or found.layout != torch.strided:
        raise OutputError(f"a tensor of {found.dtype}, {found.layout}, expected dense floating-point values")
    return found


def _kind(found: object) -> str:
    fields = ", ".join(found) if isinstance(found, Mapping) else ""
    return f"an object of type {type(found).__name__}" + (f" with {fields}" if fields else "")


def told(error: BaseException) -> str:
    """Return an error of foreign code in one line, with its type and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
