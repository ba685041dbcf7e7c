# SPDX-License-Identifier: Apache-2.0
"""Trainings of autoencoders of a few thousand weights at 32 px, through the function that trains the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from dcae.benchmark.entries import ADAPTERS, AutoencoderFields, AutoencoderRecipe
from dcae.training.autoencoder import train_autoencoder_phase

ADAM = {"learning_rate": 2e-3, "warmup_steps": 2}
LPIPS = {"weight": 0.1, "lpips": {"network": "alex", "weights": "random"}}
GAN = {"weight": 0.1, "width": 8, "layers": 2, "optimiser": ADAM}
DATASETS = {"scenes": ADAPTERS["datasets"].validate_python(
    {"name": "scenes", "kind": "scenes", "train_images": 24, "validation_images": 3}
)}  # fmt: skip


def phase(name: str, trains: str, **fields: Any) -> dict[str, Any]:
    """A phase of a recipe; ``fields`` go over these defaults."""
    return {
        "name": name, "trains": trains, "resolution": 32, "steps": 4, "batch_size": 4, "checkpoint_every": 2,
        "optimiser": ADAM, "losses": {}, **fields,
    }  # fmt: skip


def recipe(*phases: dict[str, Any]) -> AutoencoderRecipe:
    content = {
        "name": "tiny-recipe", "kind": "autoencoder", "datasets": {"scenes": 1}, "latent_scale_images": 256,
        "phases": list(phases),
    }  # fmt: skip
    return ADAPTERS["recipes"].validate_python(content)


THREE_PHASES = (
    phase("low-resolution-full", "all", losses={"perceptual": LPIPS}),
    phase("high-resolution-latent-adaptation", "middle", resolution=64, batch_size=2),
    phase("low-resolution-local-refinement", "decoder-head", losses={"perceptual": LPIPS, "gan": GAN}),
)


def dc_ae(decoder_norm: str = "BatchNorm", **fields: Any) -> AutoencoderFields:
    """A DC-AE of f8c4; the last of its four stages has attention."""
    blocks = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"]
    stages = {
        "widths": [8, 8, 16, 16], "encoder_depths": [0, 1, 1, 1], "decoder_depths": [0, 1, 1, 1],
        "encoder_blocks": blocks, "decoder_blocks": blocks,
        "decoder_norms": [decoder_norm, decoder_norm, decoder_norm, "RMSNorm"],
    }  # fmt: skip
    return ADAPTERS["autoencoders"].validate_python(
        {"name": "tiny-dc-ae", "kind": "dc-ae", "spatial_compression": 8, "latent_channels": 4, "head_dim": 8,
         "stages": stages, **fields}
    )  # fmt: skip


def sd_vae() -> AutoencoderFields:
    """An AutoencoderKL of f4c2."""
    config = {
        "block_out_channels": [8, 8, 8], "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3, "latent_channels": 2, "layers_per_block": 1, "norm_num_groups": 4,
    }  # fmt: skip
    return ADAPTERS["autoencoders"].validate_python(
        {"name": "tiny-sd-vae", "kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 4,
         "latent_channels": 2, "config": config}
    )  # fmt: skip


def train(
    folder: Path, entry: AutoencoderFields, recipe: AutoencoderRecipe, name: str, start: Path | None = None,
    **arguments: Any,
) -> Path:  # fmt: skip
    """Train a phase in ``folder`` and return the folder of its weights."""
    train_autoencoder_phase(
        entry=entry, recipe=recipe, phase_name=name, datasets=DATASETS, output=folder / name,
        state=folder / f"{name}.state", start=start,
        **{"seed": 0, "config_digest": "config", **arguments},
    )  # fmt: skip
    return folder / name


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")
