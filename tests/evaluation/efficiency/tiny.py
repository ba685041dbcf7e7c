# SPDX-License-Identifier: Apache-2.0
"""Models and a protocol so small that a measurement takes a moment."""

import torch

from dcae.benchmark import Config
from dcae.benchmark.entries import DiffusionEntry, EfficiencyProtocol
from evaluation.efficiency.denoiser import DenoiserShape

CPU = torch.device("cpu")
PROTOCOL = EfficiencyProtocol(
    name="test",
    kind="efficiency",
    precision="fp32",
    training_batch_size=2,
    inference_batch_size=4,
    memory_batch_size=4,
    autoencoder_pixels=2 * 64 * 64,
    warmup_steps=1,
    warmup_seconds=0.01,
    seconds=0.01,
)


def changed(**fields) -> EfficiencyProtocol:
    """The protocol with other values of some fields."""
    return PROTOCOL.model_validate(PROTOCOL.model_dump() | fields)


def shape(kind: str, latent_size: int = 8, patch_size: int = 2, depth: int = 2) -> DenoiserShape:
    """A diffusion model on latents of four channels."""
    if kind == "pixart":
        return DenoiserShape(Config().entry("diffusion", "pixart-demo"), 4, latent_size, patch_size, classes=0)
    sampler = {"recipe": "none", "sampler": "dpm-solver++", "sampling_steps": 5, "guidance_scale": 1.5}
    entry = DiffusionEntry(name="model", kind=kind, depth=depth, width=32, heads=2, **sampler)
    return DenoiserShape(entry, 4, latent_size, patch_size, classes=10)
