# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every diffusers class that entries of released autoencoders name, as diffusers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from dcae.benchmark import Config
from dcae.benchmark.entries import DiffusersEntry, Pretrained

SMALL_KL = {
    "block_out_channels": [8] * 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SMALL_F16 = {
    **SMALL_KL,
    "block_out_channels": [8] * 5,
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "up_block_types": ["UpDecoderBlock2D"] * 5,
}
SMALL_VIDEO = {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}
NO_QUANT_CONV = {"use_quant_conv": False, "use_post_quant_conv": False}
SMALL_HUNYUAN = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 64, "block_out_channels": [32] * 5 + [128],
    "layers_per_block": 1,
    "spatial_compression_ratio": 32, "sample_size": 64,
}  # fmt: skip
# Hidden size 768 as released, which is the entry's number of channels; one layer, and a grid of 4 x 4 at 64 px.
SMALL_RAE = {
    "encoder_num_hidden_layers": 1, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64, "encoder_input_size": 56,
}  # fmt: skip

# What the released config.json says, at small widths: scale and shift, channels and compression are the released ones.
CONFIGS: dict[str, dict[str, Any]] = {
    "sd-vae-ft-ema": {**SMALL_KL, "latent_channels": 4},
    "sd-vae-ft-mse": {**SMALL_KL, "latent_channels": 4},
    "sdxl-vae": {**SMALL_KL, "latent_channels": 4, "scaling_factor": 0.13025},
    "sdxl-vae-fp16-fix": {**SMALL_KL, "latent_channels": 4, "scaling_factor": 0.13025},
    "sd3-vae": {**SMALL_KL, **NO_QUANT_CONV, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    "sd3.5-vae": {**SMALL_KL, **NO_QUANT_CONV, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    "flux-vae": {**SMALL_KL, **NO_QUANT_CONV, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    "flux2-vae": {**SMALL_KL, "latent_channels": 32},
    **{
        name: {
            "down_block_types": ["DownEncoderBlock2D"] * 4, "down_block_out_channels": [8] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4, "up_block_out_channels": [16] * 4, "norm_num_groups": 4,
        }
        for name in ("asymmetric-vqgan-x-1.5", "asymmetric-vqgan-x-2")
    },
    "va-vae-f16d32": {**SMALL_F16, "latent_channels": 32},
    "repa-e-va-vae": {**SMALL_F16, "latent_channels": 32},
    "repa-e-in-vae": {**SMALL_F16, "latent_channels": 32},
    "repa-e-sd-vae": {**SMALL_KL, "latent_channels": 4},
    "repa-e-flux-vae": {**SMALL_KL, "latent_channels": 16},
    "repa-e-sd3.5-vae": {**SMALL_KL, "latent_channels": 16},
    "repa-e-qwen-image-vae": SMALL_VIDEO,
    "eq-vae": {**SMALL_KL, "latent_channels": 4},
    "eq-vae-ema": {**SMALL_KL, "latent_channels": 4},
    "hunyuan-image-f32": {**SMALL_HUNYUAN, "scaling_factor": 0.75289},
    "qwen-image-vae": SMALL_VIDEO,
    "wan-2.1-vae": SMALL_VIDEO,
    **{
        name: {
            "encoder_block_out_channels": [8] * 4, "decoder_block_out_channels": [8] * 4, "latent_channels": channels,
        }
        for name, channels in (("taesd", 4), ("taesdxl", 4), ("taesd3", 16), ("taef1", 16))
    },
    "rae-dinov2-b": SMALL_RAE,
    "rae-dinov2-b-512": SMALL_RAE,
}  # fmt: skip


def saved(name: str, folder: Path, **fields: Any) -> tuple[torch.nn.Module, DiffusersEntry]:
    """A tiny model of an entry's class, saved by diffusers in the entry's subfolder, and the entry pointing there.

    ``fields`` replace those of the entry. RAE's one resolution is that of the tiny model.
    """
    entry = Config().entry("autoencoders", name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(diffusers, entry.class_name)(**CONFIGS[name]).eval()
        if entry.class_name == "AutoencoderKLFlux2":
            model.bn.running_mean.normal_()
            model.bn.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder / (entry.pretrained.subfolder or ""))
    if entry.resolutions:
        fields = {"resolutions": [64], **fields}
    place = Pretrained(id=str(folder), subfolder=entry.pretrained.subfolder)
    return model, entry.model_copy(update={"pretrained": place, **fields})
