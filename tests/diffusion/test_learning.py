# SPDX-License-Identifier: Apache-2.0
"""Tiny denoisers of every kind learn two classes of latents, or two captions, from loss to samples."""

import pytest
import torch

from dcae.benchmark.config import Config
from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.objectives import diffusion_losses, draw_training_inputs
from dcae.diffusion.sampling import sample

CONFIG = Config()
SHAPE, PATCH = (2, 4, 4), 2
ENTRY = {
    "dit": CONFIG.entry("diffusion", "dit-demo"),
    "u-vit": CONFIG.entry("diffusion", "uvit-demo"),
    "usit": CONFIG.entry("diffusion", "uvit-demo").model_copy(
        update={"recipe": "usit", "sampler": "ode", "sampling_steps": 20}
    ),
    "pixart": CONFIG.entry("diffusion", "pixart-demo"),
}


class TwoCaptions:
    """Embeddings of two captions, as ``CaptionDataset``, and of the empty one."""

    rows = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0))
    empty = Captions(rows[2:], torch.ones(1, 5, dtype=torch.bool))

    def __len__(self):
        return 2

    def batch(self, indices):
        return Captions(self.rows[indices], torch.ones(len(indices), 5, dtype=torch.bool))


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
        labels, timesteps, noise = draw_training_inputs(labels, SHAPE, 2, recipe, generator)
        condition = TwoCaptions().batch(labels) if kind == "pixart" else labels
        optimiser.zero_grad()
        losses = diffusion_losses(denoiser, latents, condition, timesteps, noise, recipe)
        sum(losses.values()).mean().backward()
        optimiser.step()
    return denoiser


def distance_to_class(denoiser: torch.nn.Module, kind: str, guidance_scale: float) -> float:
    """Mean squared distance of samples from what their class looks like; 1 on average if labels were ignored."""
    schedule = CONFIG.entry("recipes", ENTRY[kind].recipe).noise_schedule
    captions = TwoCaptions() if kind == "pixart" else None
    latents, labels = sample(denoiser, ENTRY[kind], schedule, range(64), SHAPE, 0, guidance_scale, 2, captions)
    return float((latents - latents_of(labels, torch.Generator().manual_seed(0))).square().mean())


@pytest.mark.parametrize("kind", list(ENTRY))
def test_two_classes_are_learned(kind):
    untrained, trained = train(kind, 0), train(kind, 400 if kind == "pixart" else 200)  # captions take longer
    # Without any velocity the noise stays as it is, at a distance of 2.
    assert distance_to_class(untrained, kind, 1.0) > (1.9 if kind == "usit" else 10)
    # Seen: 0.05 to 0.2.
    assert distance_to_class(trained, kind, 1.0) < 0.4
    assert distance_to_class(trained, kind, 1.5) < 0.4
