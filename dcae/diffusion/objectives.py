# SPDX-License-Identifier: Apache-2.0
"""Training objectives: noise schedule, mean squared error, and the variational bound that trains the variance.

Timesteps here are indices 0 ... T - 1 into the noise schedule; a network gets them shifted by its ``first_timestep``.
For a velocity they are times in [0, 1], not shifted: noise at 0, data at 1, a straight line between (willisma/SiT
``transport/path.py``, ICPlan; for USiT, a U-ViT, mit-han-lab/efficientvit ``diffusioncore/models/uvit.py``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import DiffusionRecipe, NoiseSchedule
from dcae.diffusion.conditions import Condition

# Half the distance of 8-bit values in [-1, 1]: the decoder term of the bound treats values, also latents, as 8-bit
# values, as DiT's release does.
HALF_BIN = 1 / 255
SMALLEST_PROBABILITY = 1e-12


def alphas_cumprod(schedule: NoiseSchedule) -> Tensor:
    """Return the remaining share of signal variance at each timestep (Ho et al. 2020, equation 4), float64 [T]."""
    power = {"linear": 1, "scaled_linear": 2}[schedule.beta_schedule]
    start, end = schedule.beta_start ** (1 / power), schedule.beta_end ** (1 / power)
    betas = torch.linspace(start, end, schedule.timesteps, dtype=torch.float64) ** power
    return torch.cumprod(1 - betas, dim=0)


class Coefficients(NamedTuple):
    """Functions of the timestep, float32 [T]."""

    signal: Tensor  # sqrt(alpha_bar)
    noise: Tensor  # sqrt(1 - alpha_bar)
    mean_per_epsilon: Tensor  # weight of the predicted noise in the reverse step's mean (Ho et al., equation 11)
    mean_scale: Tensor  # 1 / sqrt(alpha)
    smallest_log_variance: Tensor  # of the reverse step: that of the posterior given the clean latents
    largest_log_variance: Tensor  # that of the forward step, beta


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # the cache may be filled in inference and read in training
def coefficients(schedule: NoiseSchedule, device: torch.device) -> Coefficients:
    """Return the coefficients of a schedule, computed in float64 and cached on the device."""
    remaining = alphas_cumprod(schedule)
    before = torch.cat([remaining.new_ones(1), remaining[:-1]])
    alphas = remaining / before
    betas = 1 - alphas
    posterior = betas * (1 - before) / (1 - remaining)
    # At timestep 0 the posterior has no variance; Nichol & Dhariwal use that of timestep 1.
    posterior[0] = posterior[1]
    exact = Coefficients(
        signal=remaining.sqrt(),
        noise=(1 - remaining).sqrt(),
        mean_per_epsilon=betas / ((1 - remaining) * alphas).sqrt(),
        mean_scale=alphas.rsqrt(),
        smallest_log_variance=posterior.log(),
        largest_log_variance=betas.log(),
    )
    return Coefficients(*(values.float().to(device) for values in exact))


def at(values: Tensor, timesteps: Tensor) -> Tensor:
    """Return the values [T] at timesteps [B], broadcastable to latents: [B, 1, 1, 1]."""
    return values[timesteps][:, None, None, None]


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, table: Coefficients) -> Tensor:
    """Return noisy latents (Ho et al., equation 4) of latents and noise [B, c, h, w] at timesteps [B]."""
    return at(table.signal, timesteps) * latents + at(table.noise, timesteps) * noise


def per_sample_mean(values: Tensor) -> Tensor:
    """Average [B, c, h, w] to [B]."""
    return values.flatten(1).mean(dim=1)


def gaussian_divergence(mean_difference: Tensor, log_variance: Tensor, model_log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a model's Gaussian from the true one, in nats per value."""
    log_ratio = log_variance - model_log_variance
    return 0.5 * (log_ratio.exp() - 1 - log_ratio + mean_difference**2 * torch.exp(-model_log_variance))


def normal_cdf(values: Tensor) -> Tensor:
    """Return the normal distribution function in DiT's approximation (``diffusion/diffusion_utils.py``).

    The exact one would move the bound at timestep 0 by up to 4.7 %, and the gradient of the variance by up to 38 %.
    """
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def discretised_nats(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the negative log-probability of a value's bin; the outer bins are open (Ho et al., equation 13)."""
    inverse_deviation = torch.exp(-0.5 * log_variance)
    below_upper = normal_cdf((values - mean + HALF_BIN) * inverse_deviation)
    below_lower = normal_cdf((values - mean - HALF_BIN) * inverse_deviation)
    upper = torch.where(values > 0.999, 1.0, below_upper)
    lower = torch.where(values < -0.999, 0.0, below_lower)
    return -(upper - lower).clamp(min=SMALLEST_PROBABILITY).log()


def variational_bound(
    latents: Tensor,
    noisy: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    epsilon: Tensor,
    range_position: Tensor,
    table: Coefficients,
) -> Tensor:
    """Return a timestep's term of the variational bound, in bits per value (Nichol & Dhariwal 2021, eq. 4-7, 15).

    Args:
        latents, noisy, noise: clean and noisy latents, and the noise between them, [B, c, h, w].
        timesteps: [B].
        epsilon: predicted noise, detached, so that the bound trains only the variance.
        range_position: network output v; -1 means the smallest log-variance of the reverse step, 1 the largest.
        table: coefficients of the noise schedule.

    Returns:
        [B].
    """
    smallest, largest = at(table.smallest_log_variance, timesteps), at(table.largest_log_variance, timesteps)
    fraction = (range_position + 1) / 2
    model_log_variance = fraction * largest + (1 - fraction) * smallest
    per_epsilon = at(table.mean_per_epsilon, timesteps)

    divergence = gaussian_divergence(per_epsilon * (noise - epsilon), smallest, model_log_variance)
    mean = at(table.mean_scale, timesteps) * noisy - per_epsilon * epsilon
    likelihood = discretised_nats(latents, mean, model_log_variance)
    nats = torch.where(timesteps == 0, per_sample_mean(likelihood), per_sample_mean(divergence))
    return nats / math.log(2)


def straight_path(latents: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point at times [B] of the line from noise to latents, and its velocity, [B, c, h, w] (SiT)."""
    return torch.lerp(noise, latents, times[:, None, None, None]), latents - noise


def diffusion_losses(
    denoiser: nn.Module,
    latents: Tensor,
    condition: Condition,
    timesteps: Tensor,
    noise: Tensor,
    recipe: DiffusionRecipe,
    table: Coefficients | None = None,
) -> dict[str, Tensor]:
    """Return the terms of a recipe's objective for each sample; their sum is the loss.

    Args:
        denoiser: from ``build_denoiser``.
        latents: normalised, [B, c, h, w].
        condition: labels [B], dropped ones as the denoiser's ``null_label``, or captions.
        timesteps: [B] in 0 ... T - 1; for ``velocity`` times [B] in [0, 1].
        noise: standard normal, [B, c, h, w].
        recipe: its objective and noise schedule.
        table: coefficients of the noise schedule on the latents' device; default: looked up, which a compiled step
            would compute anew.

    Returns:
        ``mse`` [B], and for ``epsilon-learned-range`` also ``vlb`` [B] in bits per value.

    Raises:
        ValueError: the denoiser's number of output channels does not fit the objective.
    """
    channels = latents.shape[1]
    needed = 2 * channels if recipe.objective == "epsilon-learned-range" else channels
    if table is None and recipe.noise_schedule:
        table = coefficients(recipe.noise_schedule, latents.device)
    if recipe.objective == "velocity":
        noisy, target = straight_path(latents, noise, timesteps)
        output = denoiser(noisy, timesteps, condition).float()
    else:
        noisy, target = add_noise(latents, noise, timesteps, table), noise
        output = denoiser(noisy, timesteps + denoiser.first_timestep, condition).float()
    if output.shape[1] != needed:
        raise ValueError(
            f"objective {recipe.objective} needs {needed} output channels, the denoiser has {output.shape[1]} "
            "(dit and pixart: twice the latent channels, u-vit: as many as the latent channels)"
        )
    prediction = output[:, :channels]
    losses = {"mse": per_sample_mean((prediction - target) ** 2)}
    if recipe.objective == "epsilon-learned-range":
        position = output[:, channels:]
        losses["vlb"] = variational_bound(latents, noisy, timesteps, noise, prediction.detach(), position, table)
    return losses


def draw_training_inputs(
    labels: Tensor,
    latent_shape: tuple[int, int, int],
    null_label: int,
    recipe: DiffusionRecipe,
    generator: torch.Generator,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a training step's random inputs from one generator, on its device.

    Args:
        labels: [B]; each is dropped with the recipe's ``label_dropout``.
        latent_shape: (c, h, w).
        null_label: of the denoiser.
        recipe: its label dropout and number of timesteps.
        generator: of this step.
        out: receives the noise, [B, c, h, w].

    Returns:
        labels [B], timesteps [B] in 0 ... T - 1 or, for ``velocity``, times [B] in [0, 1), noise [B, c, h, w].
    """
    count, device = len(labels), generator.device
    dropped = torch.rand(count, generator=generator, device=device) < recipe.label_dropout
    if recipe.objective == "velocity":
        timesteps = torch.rand(count, generator=generator, device=device)
    else:
        timesteps = torch.randint(recipe.noise_schedule.timesteps, (count,), generator=generator, device=device)
    noise = torch.randn(count, *latent_shape, generator=generator, device=device, out=out)
    return torch.where(dropped, null_label, labels.to(device)), timesteps, noise
