# SPDX-License-Identifier: Apache-2.0
"""``config.json`` of a DC-AE: diffusers' ``AutoencoderDC`` format where it can express the entry."""

from __future__ import annotations

import json
from typing import Any

from dcae.benchmark.entries import DCAEEntry

NORMS = {"BatchNorm": "batch_norm", "RMSNorm": "rms_norm"}
ACTIVATIONS = {"BatchNorm": "relu", "RMSNorm": "silu"}
ADDED_LATER = {"encoder_out_shortcut": True, "decoder_in_shortcut": True, "decoder_conv_act_fn": "relu"}
ARCHITECTURE = {
    *("spatial_compression", "latent_channels", "stages", "head_dim"),
    *("downsample", "upsample", "shortcut", "decoder_output_act", "variational"),
}


def config_of(entry: DCAEEntry) -> dict[str, Any]:
    """Return the architecture as written to ``config.json``, without latent scale and shift."""
    reason = not_for_diffusers(entry)
    config = _own_config(entry, reason) if reason else _diffusers_config(entry)
    return json.loads(json.dumps(config))


def not_for_diffusers(entry: DCAEEntry) -> str | None:
    """Return why ``AutoencoderDC`` cannot express an entry's architecture, or ``None`` if it can."""
    blocks = [*entry.stages.encoder_blocks, *entry.stages.decoder_blocks]
    if entry.shortcut != "released-code":
        return f"AutoencoderDC has no shortcut: {entry.shortcut}"
    if entry.variational:
        return "AutoencoderDC has no posterior, as variational: true asks for"
    if "TransformerBlock" in blocks:
        return "AutoencoderDC has no TransformerBlock"
    return None


def difference(stored: dict[str, Any], entry: DCAEEntry) -> str | None:
    """Describe the first field of a ``config.json`` that differs from the entry's architecture, if any."""
    for name, expected in config_of(entry).items():
        actual = stored.get(name, ADDED_LATER.get(name))
        if isinstance(actual, str) and isinstance(expected, list):
            actual = [actual] * len(expected)  # one for all stages
        if actual != expected:
            return f"{name} is {actual!r}, entry {entry.name} makes it {expected!r}"
    return None


def _diffusers_config(entry: DCAEEntry) -> dict[str, Any]:
    stages = entry.stages
    none = [[] for _ in stages.widths]
    return {
        "_class_name": "AutoencoderDC",
        "in_channels": 3,
        "latent_channels": entry.latent_channels,
        "attention_head_dim": entry.head_dim,
        "encoder_block_types": stages.encoder_blocks,
        "decoder_block_types": stages.decoder_blocks,
        "encoder_block_out_channels": stages.widths,
        "decoder_block_out_channels": stages.widths,
        "encoder_layers_per_block": stages.encoder_depths,
        "decoder_layers_per_block": stages.decoder_depths,
        "encoder_qkv_multiscales": stages.encoder_multiscale or none,
        "decoder_qkv_multiscales": stages.decoder_multiscale or none,
        "upsample_block_type": entry.upsample.replace("-", "_"),
        "downsample_block_type": {"pixel-unshuffle": "pixel_unshuffle", "strided-conv": "conv"}[entry.downsample],
        "decoder_norm_types": [NORMS[norm] for norm in stages.decoder_norms],
        "decoder_act_fns": [ACTIVATIONS[norm] for norm in stages.decoder_norms],
        "encoder_out_shortcut": True,
        "decoder_in_shortcut": True,
        "decoder_conv_act_fn": entry.decoder_output_act.lower(),
    }


def _own_config(entry: DCAEEntry, reason: str) -> dict[str, Any]:
    """Return a configuration that ``AutoencoderDC`` rejects, so that it cannot misread these weights.

    It ignores a foreign class name and unknown fields, and would build its default architecture, whose weights may have
    the same names and shapes; an unknown block type is an error.
    """
    return {
        "_class_name": "dcae.autoencoders.dc_ae.DCAE",
        "_not_for_diffusers": f"{reason}; open with dcae.autoencoders.load",
        "encoder_block_types": "none of AutoencoderDC, see _not_for_diffusers",
        "architecture": entry.model_dump(mode="json", include=ARCHITECTURE),
    }
