# SPDX-License-Identifier: Apache-2.0
"""Generates latents with diffusers' schedulers, whose arguments reproduce the authors' samplers.

DDPM equals DiT's sampler to float precision. DPM-Solver++ equals U-ViT's "fast" single-step solver of order 3 and
PixArt-α's multi-step solver of order 2 but for two details: diffusers rounds the timesteps to whole numbers, and the
second stage of a third-order step uses the midpoint coefficient (1 - exp(-h)) / 2 where the original has
(exp(-h) - 1) / h + 1. Velocities are integrated by torchdiffeq, as in USiT's release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from torch import Tensor, nn
from torchdiffeq import odeint

from dcae.benchmark.entries import DiffusionEntry, NoiseSchedule
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.conditions import (
    Condition,
    EmbeddedCaptions,
    joined,
    null_condition,
    on_device,
    part,
)
from dcae.diffusion.objectives import alphas_cumprod
from dcae.randomness import numbered_generators

# Tolerances of the adaptive solver, as in mit-han-lab/efficientvit diffusioncore/models/uvit.py.
ATOL, RTOL = 1e-6, 1e-3


def ddpm_scheduler(schedule: NoiseSchedule) -> DDPMScheduler:
    """Return ancestral sampling with learned variance and evenly spaced timesteps (DiT)."""
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
    """Return DPM-Solver++: single-step, order 3, data prediction (U-ViT)."""
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


def multistep_scheduler(schedule: NoiseSchedule) -> DPMSolverMultistepScheduler:
    """Return DPM-Solver++: multi-step, order 2, data prediction (PixArt-α)."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=schedule.timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=2,
        lower_order_final=True,
        final_sigmas_type="sigma_min",
        timestep_spacing="linspace",
    )


SCHEDULERS = {
    "ddpm": ddpm_scheduler,
    "dpm-solver++": dpm_solver_scheduler,
    "dpm-solver++-multistep": multistep_scheduler,
}


def scheduler_of(sampler: str, schedule: NoiseSchedule, steps: int):
    """Return a diffusers scheduler set to ``steps``, with float64 tables."""
    scheduler = SCHEDULERS[sampler](schedule)
    remaining = alphas_cumprod(schedule)
    scheduler.alphas_cumprod = remaining
    scheduler.set_timesteps(steps)
    if sampler != "ddpm":
        noise_to_signal = ((1 - remaining) / remaining).sqrt()
        scheduler.sigmas = torch.cat([noise_to_signal[scheduler.timesteps], noise_to_signal[:1]])
    return scheduler


def sample_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """Return a CPU generator per sample; a sample draws its label, first noise and step noises in that order."""
    return list(numbered_generators(indices, seed, "generated sample"))


def draw_conditions(
    generators: list[torch.Generator], indices: Sequence[int], classes: int, captions: EmbeddedCaptions | None = None
) -> Tensor:
    """Draw uniform labels [B], all 0 without classes; with captions, return their indices, which take turns."""
    labels = torch.cat([torch.randint(max(classes, 1), (1,), generator=generator) for generator in generators])
    return labels if captions is None else torch.tensor([index % len(captions) for index in indices])


def predict(
    denoiser: nn.Module,
    latents: Tensor,
    timesteps: Tensor,
    condition: Condition,
    guidance_scale: float,
    guided_channels: str = "all",
    empty: Captions | None = None,
) -> Tensor:
    """Return the output with classifier-free guidance: unconditional + scale * (conditional - unconditional).

    Guidance applies to the predicted noise or velocity; other outputs are those of the conditional pass. Both passes
    are one batch; a scale of 1 needs only the conditional pass.

    Args:
        denoiser: from ``build_denoiser``.
        latents: [B, c, h, w].
        timesteps: [B], in the denoiser's counting.
        condition: labels [B] or captions.
        guidance_scale: 1 means none.
        guided_channels: ``first-three`` guides the first three latent channels only, as DiT's release does.
        empty: the empty caption, if the condition is captions.

    Returns:
        [B, out_channels, h, w] in the latents' precision.
    """
    if guidance_scale == 1:
        return denoiser(latents, timesteps, condition).to(latents.dtype)
    with_and_without = joined(condition, null_condition(denoiser, condition, empty))
    both = denoiser(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), with_and_without).to(latents.dtype)
    conditional, unconditional = both.chunk(2)
    channels = latents.shape[1]
    guided = {"all": channels, "first-three": min(3, channels)}[guided_channels]
    noise = torch.lerp(unconditional[:, :guided], conditional[:, :guided], guidance_scale)
    return torch.cat([noise, conditional[:, guided:]], dim=1)


def integrate(velocity: Callable[[Tensor, Tensor, slice], Tensor], noise: Tensor, solver: str, points: int) -> Tensor:
    """Integrate a velocity from noise at time 0 to latents at time 1, [B, c, h, w].

    Args:
        velocity: returns the velocity, given times [b], latents [b, c, h, w] and their rows in the batch.
        noise: [B, c, h, w].
        solver: ``heun2`` takes ``points - 1`` equal steps of two evaluations each. ``dopri5`` adapts its steps to the
            error, with the authors' tolerances; samples are integrated separately, so as not to depend on their batch.
        points: of the time grid, ends included; ignored by the adaptive solver.
    """
    ends = torch.tensor([0.0, 1.0], device=noise.device, dtype=noise.dtype)

    def of(rows: slice) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda time, latents: velocity(time.expand(len(latents)), latents, rows)

    if solver == "heun2":
        times = torch.linspace(0, 1, points, device=noise.device, dtype=noise.dtype)
        grid = {"grid_constructor": lambda _function, _start, _ends: times}
        return odeint(of(slice(0, len(noise))), noise, ends, method="heun2", options=grid)[-1]
    single = [slice(row, row + 1) for row in range(len(noise))]
    return torch.cat([odeint(of(row), noise[row], ends, method="dopri5", atol=ATOL, rtol=RTOL)[-1] for row in single])


def _check(
    denoiser: nn.Module,
    entry: DiffusionEntry,
    schedule: NoiseSchedule | None,
    channels: int,
    guidance_scale: float,
    classes: int,
    captions: EmbeddedCaptions | None,
) -> None:
    if denoiser.null_label != classes:
        raise ValueError(f"classes is {classes}, but the denoiser was built with classes={denoiser.null_label}")
    if (captions is None) != (entry.conditioning != "caption"):
        given = "missing" if captions is None else "given"
        raise ValueError(f"{entry.name}: captions are {given}, but conditioning is {entry.conditioning}")
    if classes == 0 and captions is None and guidance_scale != 1:
        raise ValueError(f"guidance_scale is {guidance_scale}, but an unconditional denoiser needs guidance_scale=1")
    if (schedule is None) != (entry.sampler == "ode"):
        given = "missing" if schedule is None else "given"
        raise ValueError(
            f"{entry.name}: the noise schedule is {given}, but sampler is {entry.sampler}: ode goes with a recipe of "
            "objective velocity, which has none, and every other sampler with a recipe that has one"
        )
    if entry.sampler == "ddpm" and denoiser.out_channels != 2 * channels:
        raise ValueError(
            f"{entry.name}: sampler ddpm needs a denoiser with {2 * channels} output channels (noise and variance), "
            f"got {denoiser.out_channels}; use dpm-solver++"
        )
    if entry.sampler in ("ddpm", "ode") and entry.sampling_steps < 2:
        raise ValueError(
            f"{entry.name}: sampler {entry.sampler} needs sampling_steps of 2 or more, got {entry.sampling_steps}"
        )


@torch.no_grad()
def sample(
    denoiser: nn.Module,
    entry: DiffusionEntry,
    schedule: NoiseSchedule | None,
    indices: Sequence[int],
    latent_shape: tuple[int, int, int],
    seed: int,
    guidance_scale: float,
    classes: int,
    captions: EmbeddedCaptions | None = None,
) -> tuple[Tensor, Tensor]:
    """Generate the samples of the given indices as one batch on the denoiser's device.

    A sample's condition and noises depend only on (seed, index), not on its batch; labels do not depend on the latent
    shape either. Samples cycle through the captions in order.

    Args:
        denoiser: from ``build_denoiser``; in float64 it is sampled in float64.
        entry: conditioning, sampler, sampling steps and guided channels.
        schedule: noise schedule of the training recipe; ``None`` for a velocity.
        indices: one per sample.
        latent_shape: (c, h, w).
        seed: of the whole set of samples.
        guidance_scale: 1 means none.
        classes: of the data; labels are drawn from 0 ... classes - 1 for a class-conditional denoiser.
        captions: for a denoiser conditioned on them.

    Returns:
        Normalised latents, float32 [B, c, h, w], and labels or caption indices, int64 [B].

    Raises:
        ValueError: denoiser, sampler, noise schedule, guidance and condition do not match.
    """
    classes = entry.classes(classes)
    _check(denoiser, entry, schedule, latent_shape[0], guidance_scale, classes, captions)
    parameter = next(denoiser.parameters())
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32

    generators = sample_generators(seed, indices)
    labels = draw_conditions(generators, indices, classes, captions)
    noise = torch.stack([torch.randn(latent_shape, generator=generator) for generator in generators])
    latents = noise.to(parameter.device, dtype)
    condition, empty = labels.to(parameter.device), None
    if captions is not None:
        condition, empty = (
            on_device(each, parameter.device, dtype) for each in (captions.batch(labels.tolist()), captions.empty)
        )

    def predicted(timesteps: Tensor, latents: Tensor, rows: slice) -> Tensor:
        of_rows = part(condition, rows)
        output = predict(denoiser, latents, timesteps, of_rows, guidance_scale, entry.guided_channels, empty)
        return output if entry.sampler == "ddpm" else output[:, : latent_shape[0]]

    if entry.sampler == "ode":
        return integrate(predicted, latents, entry.ode_solver, entry.sampling_steps), labels.to(parameter.device)
    scheduler = scheduler_of(entry.sampler, schedule, entry.sampling_steps)
    everything = slice(0, len(latents))
    for timestep in scheduler.timesteps:
        timesteps = torch.full((len(latents),), int(timestep) + denoiser.first_timestep, device=latents.device)
        output = predicted(timesteps, latents, everything)
        latents = scheduler.step(output, timestep, latents, generator=generators).prev_sample
    return latents, labels.to(parameter.device)
