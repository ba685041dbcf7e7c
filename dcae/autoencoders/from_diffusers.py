# SPDX-License-Identifier: Apache-2.0
"""Autoencoder classes of the diffusers library under this project's contract."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder
from dcae.autoencoders.layers import first, last
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DiffusersEntry, Pretrained
from dcae.weights import seeded_random_init

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


class DiffusersAutoencoder(Autoencoder):
    """Wraps a diffusers model; its parameters are those of ``model``.

    Args:
        model: an instance of one of diffusers' autoencoder classes.
        entry: gives the numbers of the contract, and whether ``encode`` samples a posterior or takes its mode.
    """

    def __init__(self, model: nn.Module, entry: DiffusersEntry):
        super().__init__(entry.spatial_compression, entry.latent_channels, entry.latent_scale, entry.latent_shift)
        self.model = model
        self.entry = entry
        self.latent_posterior = entry.posterior

    def posterior(self, images: Tensor) -> DiagonalGaussianDistribution:
        """Distribution of the latents of images [B, 3, H, W], with ``mode()``, ``sample()`` and ``kl()``.

        Raises:
            TypeError: the model is not a variational autoencoder.
        """
        output = self.model.encode(images)
        if not hasattr(output, "latent_dist"):
            raise TypeError(f"{self.entry.class_name} encodes to plain latents: it has no posterior")
        return output.latent_dist

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        output = self.model.encode(images)
        if hasattr(output, "latent_dist"):
            distribution = output.latent_dist
            return distribution.sample() if self.entry.posterior == "sample" else distribution.mode()
        return output.latent if hasattr(output, "latent") else output.latents  # [B, c, H/f, W/f]

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        return self.model.decode(latents).sample  # [B, 3, H, W]

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
    return DiffusersAutoencoder(model, entry)


def from_pretrained(entry: DiffusersEntry, source: Pretrained, random_weights: bool = False) -> DiffusersAutoencoder:
    """Released weights of the entry's class, from safetensors alone.

    Args:
        entry: what the autoencoder is.
        source: hub id or folder, revision and subfolder.
        random_weights: read only the architecture.

    Raises:
        OSError: no such id, revision or file, or no network.
    """
    chosen = autoencoder_class(entry.class_name)
    place = {"revision": source.revision, "subfolder": source.subfolder}
    if random_weights:
        model = chosen.from_config(chosen.load_config(source.id, **place))
    else:
        model = chosen.from_pretrained(source.id, use_safetensors=True, low_cpu_mem_usage=False, **place)
    return DiffusersAutoencoder(model, entry)
