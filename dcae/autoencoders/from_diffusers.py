# SPDX-License-Identifier: Apache-2.0
"""Autoencoder classes of the diffusers library under this project's contract."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dcae.autoencoders import folder
from dcae.autoencoders.contract import Autoencoder
from dcae.autoencoders.conventions import images_from_model, images_to_model, latents_from_model, latents_to_model
from dcae.autoencoders.latent_statistics import entry_scale, settle
from dcae.autoencoders.layers import first, last
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import Conventions, DiffusersEntry
from dcae.initialisation import seeded_random_init, set_to_zero
from dcae.weights.catalogue import WeightsError
from dcae.weights.hub import find, find_config

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


class DiffusersAutoencoder(Autoencoder):
    """Wraps a diffusers model; its parameters are those of ``model``.

    Args:
        model: an instance of one of diffusers' autoencoder classes.
        entry: gives the numbers of the contract, whether ``encode`` samples a posterior or takes its mode, and in what
            the class differs from the contract (``conventions``).
    """

    def __init__(self, model: nn.Module, entry: DiffusersEntry):
        super().__init__(entry.spatial_compression, entry.latent_channels, entry_scale(entry), entry.latent_shift)
        self.model = model
        self.entry = entry
        self.conventions = entry.conventions or Conventions()
        self.latent_posterior = entry.posterior

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Distribution of the class's own latents of images [B, 3, H, W], with ``mode()``, ``sample()`` and ``kl()``.

        Raises:
            TypeError: the model is not a variational autoencoder.
        """
        output = self._encoded(images)
        if not hasattr(output, "latent_dist"):
            raise TypeError(f"{self.entry.class_name} encodes to plain latents: it has no posterior")
        return output.latent_dist

    def _encoded(self, images: Tensor) -> Any:
        return self.model.encode(images_to_model(images, self.conventions))

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.posterior(images)
        mean, std = (latents_from_model(each, self.conventions) for each in (posterior.mean, posterior.std))
        return mean, std

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        output = self._encoded(images)
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
        """As ``DCAE.middle_layers``: what lies between the innermost blocks of an ``AutoencoderKL``."""
        encoder, decoder = self._kl("middle_layers").encoder, self.model.decoder
        between = [encoder.conv_norm_out, encoder.conv_out, self.model.quant_conv, self.model.post_quant_conv]
        before = [*_units(encoder.down_blocks), encoder.mid_block]
        after = [decoder.mid_block, *_units(decoder.up_blocks)]
        heads = [layer for layer in (*between, decoder.conv_in) if layer is not None]
        return [*last(before, extra_blocks), *heads, *first(after, extra_blocks)]

    def decoder_head(self, extra_blocks: int = 0) -> list[nn.Module]:
        """As ``DCAE.decoder_head``: output norm and convolution of an ``AutoencoderKL``."""
        decoder = self._kl("decoder_head").decoder
        before = [decoder.mid_block, *_units(decoder.up_blocks)]
        return [*last(before, extra_blocks), decoder.conv_norm_out, decoder.conv_out]

    def _kl(self, what: str) -> nn.Module:
        if type(self.model).__name__ != "AutoencoderKL":
            raise TypeError(f"{what} is known of AutoencoderKL, not of {self.entry.class_name}")
        return self.model


def _units(blocks: nn.ModuleList) -> list[nn.Module]:
    """Residual blocks, attentions and changes of size of diffusers' down or up blocks, in the order they run."""
    units = []
    for block in blocks:
        attentions = list(getattr(block, "attentions", None) or [])
        for i, residual in enumerate(block.resnets):
            units += [residual, *attentions[i : i + 1]]
        units += [*(getattr(block, "downsamplers", None) or []), *(getattr(block, "upsamplers", None) or [])]
    return units


def autoencoder_class(name: str) -> type[nn.Module]:
    """The class of that name among diffusers' autoencoders; raises ``ConfigError`` for any other name."""
    import diffusers

    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not found.__module__.startswith("diffusers.models.autoencoders."):
        known = ", ".join(sorted(known for known in dir(diffusers) if "Autoencoder" in known))
        raise ConfigError(f"class: diffusers {diffusers.__version__} has no autoencoder {name!r}; it has {known}")
    return found


def _zero_init_residual(model: nn.Module) -> None:
    """Let residual blocks and attentions begin as the identity: their last layers have weights and biases 0."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            set_to_zero(module.conv2)
        elif isinstance(module, Attention):
            set_to_zero(module.to_out[0])


def from_config(entry: DiffusersEntry, seed: int) -> DiffusersAutoencoder:
    """The entry's architecture with random weights.

    The library's biases are as large as the signal that thin layers without a norm pass on, and drown it: a tiny
    network then needs thousands of steps before it sees its input. ``he-normal`` keeps the signal and has no biases.

    Raises:
        ConfigError: unknown class or unknown argument of it.
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


def from_folder(entry: DiffusersEntry, place: Path) -> DiffusersAutoencoder:
    """The architecture that the ``config.json`` in a folder tells, with random weights.

    Raises:
        WeightsError: there is none, or it is of another class than the entry's.
    """
    stored = _own_config(entry, place / folder.CONFIG)
    return DiffusersAutoencoder(autoencoder_class(entry.class_name).from_config(stored), entry)


def from_pretrained(entry: DiffusersEntry, shapes_only: bool = False) -> DiffusersAutoencoder:
    """Released weights of the entry's class in float32, from safetensors alone; with tiling and slicing off.

    diffusers reads the file, since older releases give the layers of attention other names, which it knows.

    Args:
        entry: what the autoencoder is, with ``pretrained``.
        shapes_only: read the architecture alone.

    Raises:
        WeightsError: no such weights, a pickle, another class than the entry's, weights that do not fit its class, or
            a latent scale or shift that the entry gives otherwise.
    """
    what = f"autoencoder {entry.name}"
    if shapes_only:
        config = find_config(what, entry.pretrained)
        autoencoder = from_folder(entry, config.parent)
        settle(autoencoder, autoencoder.model, _own_config(entry, config), config)
        return autoencoder
    path = find(what, entry.pretrained)
    if path.name != folder.WEIGHTS:
        raise WeightsError(
            f"{what}: found {path}, but diffusers reads {folder.WEIGHTS} with a {folder.CONFIG} beside it"
        )
    config = path.with_name(folder.CONFIG)
    stored = _own_config(entry, config)
    model = _read(autoencoder_class(entry.class_name), path, what)
    autoencoder = DiffusersAutoencoder(model, entry)
    autoencoder.released_file = path
    settle(autoencoder, model, stored, config)
    return autoencoder


def _own_config(entry: DiffusersEntry, path: Path) -> dict[str, Any]:
    """What ``config.json`` says, without the defaults of the class."""
    stored = folder.read_config(path.parent)
    if stored.get("_class_name") != entry.class_name:
        raise WeightsError(
            f"{path}: _class_name is {stored.get('_class_name')!r}, but class of autoencoder {entry.name} is "
            f"{entry.class_name!r}: either these are the weights of another model, or the entry is wrong"
        )
    return stored


def _read(chosen: type[nn.Module], path: Path, what: str) -> nn.Module:
    folder.read_shapes(path)  # a damaged file is told as one
    try:
        model, report = chosen.from_pretrained(
            path.parent, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32,
            output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True,  # told below
        )  # fmt: skip
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{what}: {path} does not fit {chosen.__name__} with {folder.CONFIG}: {error}") from error
    differing = {name: found for name, found in report.items() if found}
    if differing:
        listed = "; ".join(f"{name.replace('_', ' ')}: {_few(found)}" for name, found in differing.items())
        raise WeightsError(f"{what}: {path} does not fit {chosen.__name__} with {folder.CONFIG}: {listed}")
    return model


def _few(names: Any) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
