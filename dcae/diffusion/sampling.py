# SPDX-License-Identifier: Apache-2.0
"""Generates latents. The schedulers are diffusers'; their arguments make them equal to the authors' samplers.

DDPM equals DiT's sampler to float precision. DPM-Solver++ equals U-ViT's "fast" single-step solver of order 3 but for
two details: diffusers rounds the timesteps to whole numbers, and the second stage of a third-order step uses the
midpoint coefficient (1 - exp(-h)) / 2 where the original has (exp(-h) - 1) / h + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from torch import Tensor, nn

from dcae.benchmark.entries import DiffusionEntry, NoiseSchedule


def ddpm_scheduler(schedule: NoiseSchedule) -> DDPMScheduler:
    """Ancestral sampling with learned variance, timesteps evenly spaced from the last to 0 (DiT)."""
    return DDPMScheduler(
        num_train_timesteps=schedule.timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type="epsilon",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="linspace",
    )


def dpm_solver_scheduler(schedule: NoiseSchedule) -> DPMSolverSinglestepScheduler:
    """DPM-Solver++, single-step, order 3, data prediction (U-ViT)."""
    return DPMSolverSinglestepScheduler(
        num_train_timesteps=schedule.timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=3,
        lower_order_final=True,
        final_sigmas_type="sigma_min",
    )


SCHEDULERS = {"ddpm": ddpm_scheduler, "dpm-solver++": dpm_solver_scheduler}


def sample_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """One generator on the CPU for each sample; a sample draws its label, first noise and step noises in that order.

    torch seeds its CPU generator with 32 bits only. So that no two samples of a seed are alike, the index is added to
    32 bits that come from the seed.
    """
    start = int.from_bytes(hashlib.sha256(f"samples of seed {seed}".encode()).digest()[:4], "big")
    return [torch.Generator().manual_seed((start + index) % 2**32) for index in indices]


def draw_labels(generators: list[torch.Generator], classes: int) -> Tensor:
    """Uniform labels [B]; all 0 without classes."""
    return torch.cat([torch.randint(max(classes, 1), (1,), generator=generator) for generator in generators])


def predict(
    denoiser: nn.Module,
    latents: Tensor,
    timestep: int,
    labels: Tensor,
    guidance_scale: float,
    guided_channels: str = "all",
) -> Tensor:
    """The denoiser's output with classifier-free guidance: unconditional + scale * (conditional - unconditional).

    Guidance concerns the predicted noise; what else a network predicts is that of the conditional pass. Both passes
    go through the denoiser as one batch; a scale of 1 takes the conditional pass alone.

    Args:
        denoiser: from ``build_denoiser``.
        latents: [B, c, h, w].
        timestep: index into the noise schedule.
        labels: [B].
        guidance_scale: 1 means none.
        guided_channels: ``first-three`` guides the first three latent channels only, as DiT's release does.

    Returns:
        float32 [B, out_channels, h, w].
    """
    timesteps = torch.full((len(latents),), timestep + denoiser.first_timestep, device=latents.device)
    if guidance_scale == 1:
        return denoiser(latents, timesteps, labels).float()
    null_labels = torch.full_like(labels, denoiser.null_label)
    both = denoiser(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([labels, null_labels])).float()
    conditional, unconditional = both.chunk(2)
    channels = latents.shape[1]
    guided = {"all": channels, "first-three": min(3, channels)}[guided_channels]
    noise = torch.lerp(unconditional[:, :guided], conditional[:, :guided], guidance_scale)
    return torch.cat([noise, conditional[:, guided:]], dim=1)


def _check(denoiser: nn.Module, entry: DiffusionEntry, channels: int, guidance_scale: float, classes: int) -> None:
    if denoiser.null_label != classes:
        raise ValueError(f"classes is {classes}, but the denoiser was built with classes={denoiser.null_label}")
    if classes == 0 and guidance_scale != 1:
        raise ValueError(f"guidance_scale is {guidance_scale}, but an unconditional denoiser needs guidance_scale=1")
    if entry.sampler == "ddpm" and denoiser.out_channels != 2 * channels:
        raise ValueError(
            f"{entry.name}: sampler ddpm needs a denoiser with {2 * channels} output channels (noise and variance), "
            f"got {denoiser.out_channels}; use dpm-solver++"
        )
    if entry.sampler == "ddpm" and entry.sampling_steps < 2:
        raise ValueError(f"{entry.name}: sampler ddpm needs sampling_steps of 2 or more, got {entry.sampling_steps}")


@torch.no_grad()
def sample(
    denoiser: nn.Module,
    entry: DiffusionEntry,
    schedule: NoiseSchedule,
    indices: Sequence[int],
    latent_shape: tuple[int, int, int],
    seed: int,
    guidance_scale: float,
    classes: int,
) -> tuple[Tensor, Tensor]:
    """The samples of the given indices, as one batch on the denoiser's device.

    Label and noises of a sample depend on (seed, index) alone, so the batches may be cut in any way; the labels do not
    depend on the latent shape either.

    Args:
        denoiser: from ``build_denoiser``.
        entry: its sampler, sampling steps and guided channels.
        schedule: noise schedule of the recipe that the denoiser was trained by.
        indices: one per sample.
        latent_shape: (c, h, w).
        seed: of the whole set of samples.
        guidance_scale: 1 means none.
        classes: labels are drawn from 0 ... classes - 1.

    Returns:
        Normalised latents, float32 [B, c, h, w], and labels, int64 [B].

    Raises:
        ValueError: denoiser, sampler, guidance and classes do not go together.
    """
    _check(denoiser, entry, latent_shape[0], guidance_scale, classes)
    device = next(denoiser.parameters()).device
    scheduler = SCHEDULERS[entry.sampler](schedule)
    scheduler.set_timesteps(entry.sampling_steps)

    generators = sample_generators(seed, indices)
    labels = draw_labels(generators, classes).to(device)
    latents = torch.stack([torch.randn(latent_shape, generator=generator) for generator in generators]).to(device)
    for timestep in scheduler.timesteps:
        output = predict(denoiser, latents, int(timestep), labels, guidance_scale, entry.guided_channels)
        if entry.sampler == "dpm-solver++":
            output = output[:, : latent_shape[0]]
        latents = scheduler.step(output, timestep, latents, generator=generators).prev_sample
    return latents, labels
