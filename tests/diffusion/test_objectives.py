# SPDX-License-Identifier: Apache-2.0
"""The objectives against an independent computation in float64, term by term as in the papers."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn
from torch.distributions import Normal, kl_divergence

from dcae.benchmark.config import Config
from dcae.benchmark.entries import DiffusionRecipe, NoiseSchedule
from dcae.diffusion.objectives import (
    add_noise,
    alphas_cumprod,
    coefficients,
    diffusion_losses,
    draw_training_inputs,
    normal_cdf,
    variational_bound,
)

DIT, UVIT, USIT = (Config().entry("recipes", name) for name in ("dit", "uvit", "usit"))
LINEAR, SCALED_LINEAR = DIT.noise_schedule, UVIT.noise_schedule
TABLE = coefficients(LINEAR, torch.device("cpu"))


def diffusion_loss(*inputs) -> torch.Tensor:
    """What a training minimises: the mean over the batch of the sum of all terms."""
    return sum(diffusion_losses(*inputs).values()).mean()


class Fixed(nn.Module):
    """A denoiser that returns what it was given, and remembers how it was called."""

    null_label = 3

    def __init__(self, output: torch.Tensor, first_timestep: int):
        super().__init__()
        self.output, self.first_timestep = nn.Parameter(output), first_timestep

    def forward(self, latents, timesteps, labels):
        self.seen = latents, timesteps, labels
        return self.output


@pytest.mark.parametrize(("schedule", "last"), [(LINEAR, 4.04e-5), (SCALED_LINEAR, 0.00466)])
def test_noise_schedules_are_the_published_ones(schedule, last):
    remaining = alphas_cumprod(schedule)
    arguments = schedule.model_dump(exclude={"timesteps"})
    theirs = DDPMScheduler(num_train_timesteps=schedule.timesteps, **arguments).alphas_cumprod
    # diffusers multiplies a thousand factors in float32.
    assert torch.allclose(remaining.float(), theirs, atol=5e-7, rtol=1e-4)
    assert float(remaining[-1]) == pytest.approx(last, rel=2e-3)


def test_noisy_latents_keep_unit_variance():
    torch.manual_seed(0)
    latents, noise = torch.randn(4, 8, 16, 16), torch.randn(4, 8, 16, 16)
    noisy = add_noise(latents, noise, torch.tensor([0, 300, 600, 999]), TABLE)
    # 2,048 values: their standard deviation errs by 1 / sqrt(2 * 2048) = 1.6 %, so 8 % is five of those.
    assert torch.allclose(noisy.flatten(1).std(dim=1), torch.ones(4), atol=0.08)
    assert torch.allclose(noisy[0], latents[0], atol=0.06)
    assert torch.allclose(noisy[3], noise[3], atol=0.04)


def dits_cdf(x):
    """As ``approx_standard_normal_cdf`` of facebookresearch/DiT at ed81ce2, diffusion/diffusion_utils.py."""
    return 0.5 * (1.0 + torch.tanh((2.0 / math.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3))))


def test_the_normal_distribution_function_is_dits_approximation():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    assert torch.allclose(normal_cdf(x), dits_cdf(x), rtol=1e-12)
    assert 1e-4 < (normal_cdf(x) - Normal(0, 1).cdf(x)).abs().max() < 3e-4, "not the exact one"


def bound_in_float64(latents, noise, timestep: int, epsilon, position, schedule) -> float:
    """Bits per value of one sample: Ho et al. 2020, equations 5-7 and 13; Nichol & Dhariwal 2021, equation 15."""
    betas = torch.linspace(schedule.beta_start, schedule.beta_end, schedule.timesteps, dtype=torch.float64)
    remaining = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), remaining[:-1]])
    posterior_variance = betas * (1 - before) / (1 - remaining)
    t = timestep
    noisy = remaining[t].sqrt() * latents + (1 - remaining[t]).sqrt() * noise

    def posterior_mean(clean):
        on_clean = before[t].sqrt() * betas[t] / (1 - remaining[t])
        on_noisy = (1 - betas[t]).sqrt() * (1 - before[t]) / (1 - remaining[t])
        return on_clean * clean + on_noisy * noisy

    predicted = (noisy - (1 - remaining[t]).sqrt() * epsilon) / remaining[t].sqrt()
    smallest = posterior_variance[max(t, 1)].log()
    log_variance = (1 + position) / 2 * betas[t].log() + (1 - position) / 2 * smallest
    model = Normal(posterior_mean(predicted), (0.5 * log_variance).exp())
    if t > 0:
        nats = kl_divergence(Normal(posterior_mean(latents), posterior_variance[t].sqrt()), model)
    else:
        upper, lower = (dits_cdf((latents + shift - model.loc) / model.scale) for shift in (1 / 255, -1 / 255))
        upper, lower = torch.where(latents > 0.999, 1.0, upper), torch.where(latents < -0.999, 0.0, lower)
        nats = -(upper - lower).clamp(min=1e-12).log()
    return float(nats.mean() / math.log(2))


@pytest.mark.parametrize("timestep", [0, 1, 2, 50, 500, 999])
def test_variational_bound_is_that_of_the_papers(timestep):
    torch.manual_seed(timestep)
    latents, noise = torch.randn(2, 1, 4, 6, 6, dtype=torch.float64)
    epsilon = noise + 0.3 * torch.randn_like(noise)
    position = torch.empty_like(noise).uniform_(-1.2, 1.2)
    timesteps = torch.tensor([timestep])
    noisy = add_noise(latents.float(), noise.float(), timesteps, TABLE)
    bound = variational_bound(
        latents.float(), noisy, timesteps, noise.float(), epsilon.float(), position.float(), TABLE
    )
    expected = bound_in_float64(latents, noise, timestep, epsilon, position, LINEAR)
    # float32 against float64; at timestep 0 a bin's probability is a difference of close numbers.
    assert bound.item() == pytest.approx(expected, rel=1e-3 if timestep == 0 else 1e-4, abs=1e-6)


def test_the_bound_is_zero_for_the_true_posterior():
    latents, noise = torch.randn(2, 3, 4, 5, 5)
    timesteps = torch.tensor([1, 400, 999])
    noisy = add_noise(latents, noise, timesteps, TABLE)
    bound = variational_bound(latents, noisy, timesteps, noise, noise, torch.full_like(noise, -1), TABLE)
    assert torch.allclose(bound, torch.zeros(3), atol=1e-6)


def test_epsilon_is_the_mean_squared_error_of_the_noise():
    latents, noise, output = torch.randn(3, 2, 4, 5, 5)
    denoiser = Fixed(output, first_timestep=1)
    labels, timesteps = torch.tensor([0, 3]), torch.tensor([0, 999])
    losses = diffusion_losses(denoiser, latents, labels, timesteps, noise, UVIT)
    assert list(losses) == ["mse"]
    assert torch.allclose(losses["mse"], ((output - noise) ** 2).mean(dim=(1, 2, 3)))
    seen_latents, seen_timesteps, seen_labels = denoiser.seen
    assert seen_timesteps.tolist() == [1, 1000], "U-ViT counts its timesteps from 1 to 1000"
    assert torch.equal(seen_labels, labels)
    remaining = alphas_cumprod(SCALED_LINEAR)[timesteps].float()[:, None, None, None]
    assert torch.allclose(seen_latents, remaining.sqrt() * latents + (1 - remaining).sqrt() * noise, atol=1e-6)


def test_velocity_is_that_of_the_straight_path_from_noise_to_data():
    latents, noise, output = torch.randn(3, 3, 4, 5, 5)
    denoiser = Fixed(output, first_timestep=1)
    times = torch.tensor([0.0, 0.25, 1.0])
    losses = diffusion_losses(denoiser, latents, torch.tensor([0, 1, 3]), times, noise, USIT)
    assert list(losses) == ["mse"]
    assert torch.allclose(losses["mse"], ((output - (latents - noise)) ** 2).mean(dim=(1, 2, 3)))
    path, seen_times, _ = denoiser.seen
    assert torch.equal(seen_times, times), "times go into the network as they are"
    assert torch.allclose(path[0], noise[0]) and torch.allclose(path[2], latents[2], atol=1e-6)
    assert torch.allclose(path[1], 0.25 * latents[1] + 0.75 * noise[1], atol=1e-6)


def test_times_of_velocities_are_uniform():
    generator = torch.Generator().manual_seed(0)
    labels, times, noise = draw_training_inputs(torch.zeros(4000, dtype=torch.long), (1, 2, 2), 7, USIT, generator)
    assert times.dtype == torch.float32 and times.min() >= 0 and times.max() < 1
    # Five standard errors: a uniform variable deviates by 0.289.
    assert abs(times.mean() - 0.5) < 5 * 0.289 / 4000**0.5
    assert set(labels.tolist()) == {0, 7} and noise.shape == (4000, 1, 2, 2)


def test_a_velocity_has_no_noise_schedule_and_all_else_has_one():
    with pytest.raises(ValueError, match="noise_schedule is given, objective is velocity"):
        DiffusionRecipe.model_validate({**DIT.model_dump(), "objective": "velocity"})
    with pytest.raises(ValueError, match="noise_schedule is missing, objective is epsilon"):
        DiffusionRecipe.model_validate({**USIT.model_dump(), "objective": "epsilon"})


def test_the_bound_does_not_train_the_mean():
    torch.manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 5, 5)
    denoiser = Fixed(torch.randn(2, 8, 5, 5), first_timestep=0)
    timesteps, labels = torch.tensor([0, 500]), torch.tensor([0, 1])
    diffusion_loss(denoiser, latents, labels, timesteps, noise, DIT).backward()
    assert denoiser.seen[1].tolist() == [0, 500]
    of_the_mean, of_the_variance = denoiser.output.grad.chunk(2, dim=1)
    expected = 2 * (denoiser.output.detach()[:, :4] - noise) / noise.numel()
    assert torch.allclose(of_the_mean, expected)
    assert torch.count_nonzero(of_the_variance) == of_the_variance.numel()


@pytest.mark.parametrize(("recipe", "channels"), [(UVIT, 8), (DIT, 4), (USIT, 8)])
def test_a_denoiser_of_the_wrong_kind_is_refused(recipe, channels):
    latents, noise = torch.randn(2, 1, 4, 5, 5)
    denoiser = Fixed(torch.randn(1, channels, 5, 5), first_timestep=0)
    timesteps = torch.tensor([0.5]) if recipe is USIT else torch.tensor([3])
    with pytest.raises(ValueError, match=f"objective {recipe.objective} needs .* output channels, the denoiser has"):
        diffusion_loss(denoiser, latents, torch.tensor([0]), timesteps, noise, recipe)


def test_training_inputs_are_drawn_as_the_recipe_says():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return draw_training_inputs(torch.zeros(4000, dtype=torch.long), (1, 2, 2), 7, UVIT, generator)

    labels, timesteps, noise = draw(0)
    assert all(torch.equal(one, other) for one, other in zip(draw(0), draw(0), strict=True))
    assert not torch.equal(draw(1)[1], timesteps)
    # Five standard errors of each estimate.
    assert abs((labels == 7).float().mean() - 0.1) < 5 * (0.09 / 4000) ** 0.5
    assert set(labels.tolist()) == {0, 7}
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    assert abs(timesteps.float().mean() - 499.5) < 5 * 289 / 4000**0.5
    assert noise.shape == (4000, 1, 2, 2)
    assert abs(noise.std() - 1) < 5 / 32000**0.5


def test_unconditional_labels_stay():
    labels = draw_training_inputs(torch.zeros(50, dtype=torch.long), (1, 2, 2), 0, DIT, torch.Generator())[0]
    assert torch.count_nonzero(labels) == 0


def test_a_schedule_may_have_any_number_of_timesteps():
    short = NoiseSchedule(beta_schedule="linear", beta_start=1e-3, beta_end=0.2, timesteps=10)
    assert alphas_cumprod(short).shape == (10,)


def test_a_schedule_first_used_in_inference_can_train_later():
    schedule = NoiseSchedule(beta_schedule="linear", beta_start=2e-4, beta_end=0.01)
    recipe = DIT.model_copy(update={"noise_schedule": schedule})
    latents, noise = torch.randn(2, 1, 4, 5, 5)
    inputs = latents, torch.tensor([0]), torch.tensor([3]), noise, recipe
    denoiser = Fixed(torch.randn(1, 8, 5, 5), first_timestep=0)
    with torch.inference_mode():
        diffusion_loss(denoiser, *inputs)
    diffusion_loss(denoiser, *inputs).backward()
    assert torch.isfinite(denoiser.output.grad).all()
