# SPDX-License-Identifier: Apache-2.0
"""Small entries that the tests of autoencoders share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dcae.autoencoders.dc_ae import DCAE
from dcae.autoencoders.released import original_names, original_shapes

STAGES = {
    "widths": [16, 16, 32, 32],
    "encoder_depths": [0, 1, 1, 2],
    "decoder_depths": [0, 2, 1, 1],
    "encoder_blocks": ["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
    "decoder_blocks": ["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
    "decoder_norms": ["BatchNorm", "BatchNorm", "RMSNorm", "RMSNorm"],
}


class Operators(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self):
        super().__init__()
        self.called = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.called.add(operator.overloadpacket)
        return operator(*args, **(kwargs or {}))


def dc_ae(stages: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """DC-AE f8c8 with both kinds of blocks and norms, as a mapping."""
    small = {"kind": "dc-ae", "spatial_compression": 8, "latent_channels": 8, "head_dim": 8}
    return {**small, **fields, "stages": {**STAGES, **(stages or {})}}


def kl(**fields: Any) -> dict[str, Any]:
    """AutoencoderKL f4c4, as a mapping."""
    config = {
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
        "latent_channels": 4,
        "norm_num_groups": 4,
    }
    entry = {"kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 4, "latent_channels": 4}
    return {**entry, "config": config, **fields}


def to_original(autoencoder: DCAE) -> dict[str, Tensor]:
    """The autoencoder's weights in the original layout."""
    tensors, shapes = autoencoder.state_dict(), original_shapes(autoencoder)
    joined = {
        there: torch.cat([tensors[name] for name in here]) if len(here) > 1 else tensors[here[0]]
        for there, here in original_names(autoencoder).items()
    }
    return {name: tensor.reshape(shapes[name]).contiguous() for name, tensor in joined.items()}
