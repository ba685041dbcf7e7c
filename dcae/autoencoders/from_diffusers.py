# SPDX-License-Identifier: Apache-2.0
"""Wraps diffusers' autoencoder classes in this project's contract."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.autoencoders import folder
from dcae.autoencoders.contract import Autoencoder, first, last
from dcae.autoencoders.folder import entry_scale, set_latent_statistics
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import Conventions, DiffusersEntry
from dcae.initialisation import seeded_random_init, set_to_zero
from dcae.weights.catalogue import WeightsError
from dcae.weights.hub import find, find_config

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


# --- Conventions: image range, videos of one frame, and latent patches ------------------------------------------------


def images_to_model(images: Tensor, conventions: Conventions) -> Tensor:
    """Map images [B, 3, H, W] in [-1, 1] to the model's range, as [B, 3, 1, H, W] for video models."""
    low, high = conventions.image_range
    if (low, high) != (-1.0, 1.0):
        images = (images + 1) * ((high - low) / 2) + low
    return images.unsqueeze(2) if conventions.video else images


def images_from_model(images: Tensor, conventions: Conventions) -> Tensor:
    """Invert ``images_to_model``."""
    low, high = conventions.image_range
    if conventions.video:
        images = images.squeeze(2)
    return images if (low, high) == (-1.0, 1.0) else (images - low) * (2 / (high - low)) - 1


def latents_from_model(latents: Tensor, conventions: Conventions) -> Tensor:
    """Map the model's latents [B, C, h, w] or [B, C, 1, h, w] to [B, C p p, h/p, w/p] with its latent patch size p.

    Channels are ordered (C, row, column), as in FLUX.2 and ``SpaceToChannel``.
    """
    return F.pixel_unshuffle(latents.squeeze(2) if conventions.video else latents, conventions.latent_patch_size)


def latents_to_model(latents: Tensor, conventions: Conventions) -> Tensor:
    """Invert ``latents_from_model``."""
    latents = F.pixel_shuffle(latents, conventions.latent_patch_size)
    return latents.unsqueeze(2) if conventions.video else latents


# --- The wrapper ------------------------------------------------------------------------------------------------------


class DiffusersAutoencoder(Autoencoder):
    """Wraps a diffusers model, ``model``.

    Args:
        model: an instance of one of diffusers' autoencoder classes.
        entry: numbers of the contract, ``posterior`` (``encode`` samples it or takes its mode), and ``conventions``
            (how the class deviates from the contract).
    """

    def __init__(self, model: nn.Module, entry: DiffusersEntry):
        super().__init__(entry.spatial_compression, entry.latent_channels, entry_scale(entry), entry.latent_shift)
        self.model = model
        self.entry = entry
        self.conventions = entry.conventions or Conventions()
        self.latent_posterior = entry.posterior

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Return the model's posterior of images [B, 3, H, W], with ``mode()``, ``sample()`` and ``kl()``.

        Raises:
            TypeError: the model is not a variational autoencoder.
        """
        output = self._encode(images)
        if not hasattr(output, "latent_dist"):
            raise TypeError(f"{self.entry.class_name} encodes to plain latents: it has no posterior")
        return output.latent_dist

    def _encode(self, images: Tensor) -> Any:
        return self.model.encode(images_to_model(images, self.conventions))

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.posterior(images)
        mean, std = (latents_from_model(each, self.conventions) for each in (posterior.mean, posterior.std))
        return mean, std

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        output = self._encode(images)
        if hasattr(output, "latent_dist"):
            distribution = output.latent_dist
            latents = distribution.sample() if self.entry.posterior == "sample" else distribution.mode()
        else:
            latents = output.latent if hasattr(output, "latent") else output.latents
        return latents_from_model(latents, self.conventions)  # [B, c, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        images = self.model.decode(latents_to_model(latents, self.conventions)).sample
        return images_from_model(images, self.conventions)  # [B, 3, H, W]

    def middle_layers(self, extra_blocks: int = 0) -> list[nn.Module]:
        """Return the layers between the innermost blocks of an ``AutoencoderKL``; see ``contract.middle_layers``."""
        encoder, decoder = self._kl("middle_layers").encoder, self.model.decoder
        between = [encoder.conv_norm_out, encoder.conv_out, self.model.quant_conv, self.model.post_quant_conv]
        before = [*_units(encoder.down_blocks), encoder.mid_block]
        after = [decoder.mid_block, *_units(decoder.up_blocks)]
        heads = [layer for layer in (*between, decoder.conv_in) if layer is not None]
        return [*last(before, extra_blocks), *heads, *first(after, extra_blocks)]

    def decoder_head(self, extra_blocks: int = 0) -> list[nn.Module]:
        """Return output norm and convolution of an ``AutoencoderKL``; see ``contract.decoder_head``."""
        decoder = self._kl("decoder_head").decoder
        before = [decoder.mid_block, *_units(decoder.up_blocks)]
        return [*last(before, extra_blocks), decoder.conv_norm_out, decoder.conv_out]

    def _kl(self, method: str) -> nn.Module:
        if type(self.model).__name__ != "AutoencoderKL":
            raise TypeError(f"{method} supports AutoencoderKL, not {self.entry.class_name}")
        return self.model


def _units(blocks: nn.ModuleList) -> list[nn.Module]:
    """Return residual blocks, attentions and resamplers of diffusers' down or up blocks, in the order they run."""
    units = []
    for block in blocks:
        attentions = list(getattr(block, "attentions", None) or [])
        for i, residual in enumerate(block.resnets):
            units += [residual, *attentions[i : i + 1]]
        units += [*(getattr(block, "downsamplers", None) or []), *(getattr(block, "upsamplers", None) or [])]
    return units


def autoencoder_class(name: str) -> type[nn.Module]:
    """Return diffusers' autoencoder class of a name; raises ``ConfigError`` for any other name."""
    import diffusers

    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not found.__module__.startswith("diffusers.models.autoencoders."):
        known = ", ".join(sorted(known for known in dir(diffusers) if "Autoencoder" in known))
        raise ConfigError(f"class: diffusers {diffusers.__version__} has no autoencoder {name!r}; it has {known}")
    return found


def _zero_init_residual(model: nn.Module) -> None:
    """Zero-initialise the last layer of each residual block and attention, so that it starts as the identity."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            set_to_zero(module.conv2)
        elif isinstance(module, Attention):
            set_to_zero(module.to_out[0])


def from_config(entry: DiffusersEntry, seed: int) -> DiffusersAutoencoder:
    """Build the entry's architecture with random weights.

    diffusers' default biases are as large as the signal in thin layers without a norm: a tiny network then needs
    thousands of steps before its output depends on its input. ``he-normal`` keeps the signal and has zero biases.

    Raises:
        ConfigError: unknown class or argument.
    """
    chosen = autoencoder_class(entry.class_name)
    allowed = set(inspect.signature(chosen.__init__).parameters) - {"self"}
    unknown = sorted(set(entry.config) - allowed)
    if unknown:
        raise ConfigError(
            f"autoencoder {entry.name}: config: {', '.join(unknown)}: no such argument of {entry.class_name}; "
            f"allowed: {', '.join(sorted(allowed))}"
        )
    model = chosen(**entry.config)
    if entry.initialisation == "he-normal" and model.device.type != "meta":
        seeded_random_init(model, seed)
    if entry.zero_init_residual:
        _zero_init_residual(model)
    return DiffusersAutoencoder(model, entry)


def from_folder(entry: DiffusersEntry, path: Path) -> DiffusersAutoencoder:
    """Build the architecture of a folder's ``config.json`` with random weights.

    Raises:
        WeightsError: the file is missing, or names another class than the entry.
    """
    stored = _read_config(entry, path / folder.CONFIG)
    return DiffusersAutoencoder(autoencoder_class(entry.class_name).from_config(stored), entry)


def from_pretrained(entry: DiffusersEntry, shapes_only: bool = False) -> DiffusersAutoencoder:
    """Load released weights in float32, from safetensors only; tiling and slicing are off.

    diffusers reads the file, since it translates the attention names of older releases.

    Args:
        entry: the autoencoder, with ``pretrained``.
        shapes_only: read the architecture only.

    Raises:
        WeightsError: weights are missing, a pickle, of another class than the entry's, or do not fit it, or their
            latent scale or shift differs from the entry's.
    """
    name = f"autoencoder {entry.name}"
    if shapes_only:
        config = find_config(name, entry.pretrained)
        autoencoder = from_folder(entry, config.parent)
        set_latent_statistics(autoencoder, autoencoder.model, _read_config(entry, config), config)
        return autoencoder
    path = find(name, entry.pretrained)
    if path.name != folder.WEIGHTS:
        raise WeightsError(f"{name}: found {path}, but diffusers reads {folder.WEIGHTS} next to a {folder.CONFIG}")
    config = path.with_name(folder.CONFIG)
    stored = _read_config(entry, config)
    model = _read(autoencoder_class(entry.class_name), path, name)
    autoencoder = DiffusersAutoencoder(model, entry)
    autoencoder.released_file = path
    set_latent_statistics(autoencoder, model, stored, config)
    return autoencoder


def _read_config(entry: DiffusersEntry, path: Path) -> dict[str, Any]:
    """Return the content of ``config.json``, without the defaults of the class."""
    stored = folder.read_config(path.parent)
    if stored.get("_class_name") != entry.class_name:
        raise WeightsError(
            f"{path}: _class_name is {stored.get('_class_name')!r}, but class of autoencoder {entry.name} is "
            f"{entry.class_name!r}: either these are the weights of another model, or the entry is wrong"
        )
    return stored


def _read(chosen: type[nn.Module], path: Path, name: str) -> nn.Module:
    folder.read_shapes(path)  # reports a damaged file as such
    try:
        model, report = chosen.from_pretrained(
            path.parent, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32,
            output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True,  # reported below
        )  # fmt: skip
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{name}: {path} does not fit {chosen.__name__} with {folder.CONFIG}: {error}") from error
    differing = {kind: found for kind, found in report.items() if found}
    if differing:
        listed = "; ".join(f"{kind.replace('_', ' ')}: {_few(found)}" for kind, found in differing.items())
        raise WeightsError(f"{name}: {path} does not fit {chosen.__name__} with {folder.CONFIG}: {listed}")
    return model


def _few(names: Any) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
