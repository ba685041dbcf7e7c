# SPDX-License-Identifier: Apache-2.0
"""What an autoencoder's entry amounts to: latent shape, parameters and cost, without building it in memory."""

from __future__ import annotations

import torch

from dcae.autoencoders.loading import load
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields
from evaluation.efficiency.cost import count_macs, count_parameters, count_parameters_used


def describe_autoencoder(entry: AutoencoderFields, resolution: int, config: Config | None = None) -> dict[str, object]:
    """Shapes and cost of an autoencoder at a resolution; parameters as numbers, cost in 10**9 multiply-accumulates.

    ``encoder_parameters`` and ``decoder_parameters`` are those of the layers that run when it encodes and decodes.

    Args:
        entry: of any kind.
        resolution: side of the images in pixels.
        config: where an entry that this one is built on is looked up; the repository's by default.

    Raises:
        ConfigError: the entry's compression does not divide the resolution, or a mistake in the entry.
    """
    if resolution % entry.spatial_compression:
        raise ConfigError(
            f"autoencoder {entry.name}: resolution {resolution} is no multiple of its spatial_compression "
            f"{entry.spatial_compression}"
        )
    autoencoder = load(entry, config=config, device="meta")
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    side = resolution // entry.spatial_compression
    latents = torch.empty(1, entry.latent_channels, side, side, device="meta")
    return {
        "resolution": resolution,
        "spatial_compression": entry.spatial_compression,
        "latent_channels": entry.latent_channels,
        "latent_shape": [entry.latent_channels, side, side],
        "parameters": count_parameters(autoencoder),
        "encoder_parameters": count_parameters_used(autoencoder, autoencoder.encode, images),
        "decoder_parameters": count_parameters_used(autoencoder, autoencoder.decode, latents),
        "encode_gmacs": round(count_macs(autoencoder.encode, images) / 1e9, 3),
        "decode_gmacs": round(count_macs(autoencoder.decode, latents) / 1e9, 3),
    }
