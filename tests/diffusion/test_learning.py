# SPDX-License-Identifier: Apache-2.0
"""A tiny DiT and a tiny U-ViT learn two classes of latents, from loss to samples."""

import pytest
import torch

from dcae.benchmark.config import Config
from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion import build_denoiser, diffusion_losses, draw_training_inputs, sample

CONFIG = Config()
SHAPE, PATCH = (2, 4, 4), 2
ENTRY = {
    "dit": CONFIG.entry("diffusion", "dit-demo"),
    "u-vit": CONFIG.entry("diffusion", "uvit-demo"),
}


def latents_of(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The class decides the sign of the first channel; the second is bright above and dark below; a little noise."""
    latents = torch.ones(len(labels), *SHAPE)
    latents[:, 0] *= torch.tensor([-1.0, 1.0])[labels][:, None, None]
    latents[:, 1, SHAPE[1] // 2 :] = -1
    return latents + 0.1 * torch.randn(latents.shape, generator=generator)


def train(kind: str, steps: int) -> torch.nn.Module:
    entry: DiffusionEntry = ENTRY[kind].model_copy(update={"width": 64, "heads": 2})
    recipe = CONFIG.entry("recipes", entry.recipe)
    torch.manual_seed(0)
    denoiser = build_denoiser(entry, SHAPE[0], SHAPE[1], PATCH, classes=2)
    optimiser = torch.optim.AdamW(denoiser.parameters(), 5e-3, betas=(0.9, 0.99), weight_decay=0)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        labels = torch.randint(2, (64,), generator=generator)
        latents = latents_of(labels, generator)
        labels, timesteps, noise = draw_training_inputs(labels, SHAPE, denoiser.null_label, recipe, generator)
        optimiser.zero_grad()
        losses = diffusion_losses(denoiser, latents, labels, timesteps, noise, recipe)
        sum(losses.values()).mean().backward()
        optimiser.step()
    return denoiser


def distance_to_class(denoiser: torch.nn.Module, kind: str, guidance_scale: float) -> float:
    """Mean squared distance of samples from what their class looks like; 1 on average if labels were ignored."""
    schedule = CONFIG.entry("recipes", ENTRY[kind].recipe).noise_schedule
    latents, labels = sample(denoiser, ENTRY[kind], schedule, range(64), SHAPE, 0, guidance_scale, classes=2)
    return float((latents - latents_of(labels, torch.Generator().manual_seed(0))).square().mean())


@pytest.mark.parametrize("kind", ["dit", "u-vit"])
def test_two_classes_are_learned(kind):
    untrained, trained = train(kind, 0), train(kind, 300)
    assert distance_to_class(untrained, kind, 1.0) > 10
    # Seen: 0.05 to 0.1.
    assert distance_to_class(trained, kind, 1.0) < 0.4
    assert distance_to_class(trained, kind, 1.5) < 0.4
