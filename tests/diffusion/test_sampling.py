# SPDX-License-Identifier: Apache-2.0
"""The samplers against independent step-by-step implementations in float64, and the purity of the sample set."""

import math

import pytest
import torch
from torch import nn

from dcae.benchmark.config import Config
from dcae.diffusion import build_denoiser, sample
from dcae.diffusion.objectives import alphas_cumprod
from dcae.diffusion.sampling import ddpm_scheduler, dpm_solver_scheduler, draw_labels, predict, sample_generators

CONFIG = Config()
DIT, UVIT = CONFIG.entry("diffusion", "dit-xl"), CONFIG.entry("diffusion", "uvit-s")
LINEAR, SCALED_LINEAR = (CONFIG.entry("recipes", name).noise_schedule for name in ("dit", "uvit"))
SHAPE = (4, 3, 3)


class MixtureDenoiser(nn.Module):
    """The exact denoiser of a mixture of two Gaussians, one per class; computes in the dtype of the latents.

    With learned variance the position in the range is a smooth function of the latents.
    """

    null_label = 2

    def __init__(self, schedule, first_timestep: int, learned_variance: bool):
        super().__init__()
        self.remaining, self.first_timestep = alphas_cumprod(schedule), first_timestep
        self.learned_variance, self.out_channels = learned_variance, SHAPE[0] * (2 if learned_variance else 1)
        self.place = nn.Parameter(torch.zeros(()))  # tells the device
        self.calls = []

    def forward(self, latents, timesteps, labels):
        self.calls.append((len(latents), int(timesteps[0])))
        remaining = self.remaining[timesteps - self.first_timestep].to(latents.dtype)[:, None, None, None]
        centre = torch.tensor([-1.0, 1.0, 0.0], dtype=latents.dtype)[labels][:, None, None, None]
        spread = 0.3
        variance = remaining * spread**2 + 1 - remaining
        near = [
            torch.exp(-0.5 * (latents - remaining.sqrt() * c) ** 2 / variance) for c in (centre - 0.5, centre + 0.5)
        ]
        mean = (near[0] * (centre - 0.5) + near[1] * (centre + 0.5)) / (near[0] + near[1])
        epsilon = (1 - remaining).sqrt() * (latents - remaining.sqrt() * mean) / variance
        if not self.learned_variance:
            return epsilon
        return torch.cat([epsilon, torch.tanh(latents)], dim=1)


def guided(denoiser, latents, timestep, label, scale):
    def output(label):
        return denoiser(latents, torch.tensor([timestep]), torch.tensor([label]))

    conditional, unconditional = output(label), output(denoiser.null_label)
    result = conditional.clone()
    result[:, : SHAPE[0]] = (unconditional + scale * (conditional - unconditional))[:, : SHAPE[0]]
    return result


def ddpm_in_float64(denoiser, steps: int, generator, scale: float) -> torch.Tensor:
    """Ancestral sampling over respaced timesteps (Nichol & Dhariwal 2021, section 4), one sample."""
    label = int(torch.randint(2, (1,), generator=generator))
    x = torch.randn(1, *SHAPE, generator=generator).double()
    used = [round(i * 999 / (steps - 1)) for i in range(steps)]
    remaining = alphas_cumprod(LINEAR)[used]
    for i in reversed(range(steps)):
        before = remaining[i - 1] if i else torch.ones((), dtype=torch.float64)
        beta = 1 - remaining[i] / before
        epsilon, position = guided(denoiser, x, used[i], label, scale).chunk(2, dim=1)
        clean = (x - (1 - remaining[i]).sqrt() * epsilon) / remaining[i].sqrt()
        mean = before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * x
        x = mean / (1 - remaining[i])
        if i:
            smallest = beta * (1 - before) / (1 - remaining[i])
            log_variance = (1 + position) / 2 * beta.log() + (1 - position) / 2 * smallest.log()
            x = x + (0.5 * log_variance).exp() * torch.randn(1, *SHAPE, generator=generator).double()
    return x


def dpm_solver_in_float64(denoiser, steps: int, generator, scale: float) -> torch.Tensor:
    """DPM-Solver++ (Lu et al. 2022), single-step, orders 3, 3, ... and the rest, with diffusers' two conventions."""
    label = int(torch.randint(2, (1,), generator=generator))
    x = torch.randn(1, *SHAPE, generator=generator).double()
    times = [round(999 - i * 999 / steps) for i in range(steps + 1)]
    remaining = alphas_cumprod(SCALED_LINEAR)[times]
    alpha, sigma = remaining.sqrt(), (1 - remaining).sqrt()
    lam = alpha.log() - sigma.log()
    orders = [3] * (steps // 3 - 1) + [2, 1] if steps % 3 == 0 else [3] * (steps // 3) + [steps % 3]

    def clean(x, i):
        return (x - sigma[i] * guided(denoiser, x, times[i] + 1, label, scale)) / alpha[i]

    def first_terms(x, data, i, j):
        """Transfer from time i to time j with the prediction of time i held constant."""
        return sigma[j] / sigma[i] * x - alpha[j] * torch.expm1(lam[i] - lam[j]) * data

    def midpoint(x, data, i, j, k):
        """Second order from i to k, by the prediction at j."""
        slope = (clean(first_terms(x, data, i, j), j) - data) * (lam[k] - lam[i]) / (lam[j] - lam[i])
        return first_terms(x, data, i, k) - 0.5 * alpha[k] * torch.expm1(lam[i] - lam[k]) * slope

    i = 0
    for order in orders:
        data = clean(x, i)
        if order == 1:
            x = first_terms(x, data, i, i + 1)
        elif order == 2:
            x = midpoint(x, data, i, i + 1, i + 2)
        else:
            h = lam[i + 3] - lam[i]
            slope = (clean(midpoint(x, data, i, i + 1, i + 2), i + 2) - data) * h / (lam[i + 2] - lam[i])
            x = first_terms(x, data, i, i + 3) + alpha[i + 3] * (torch.expm1(-h) / h + 1) * slope
        i += order
    return x


@pytest.mark.parametrize("steps", [250, 20])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_ddpm_is_that_of_the_paper(steps, scale):
    denoiser = MixtureDenoiser(LINEAR, 0, learned_variance=True)
    entry = DIT.model_copy(update={"sampling_steps": steps})
    latents, _ = sample(denoiser, entry, LINEAR, range(3), SHAPE, 0, scale, classes=2)
    for index, generator in enumerate(sample_generators(0, range(3))):
        expected = ddpm_in_float64(denoiser, steps, generator, scale)
        # float32 against float64; a wrong argument of the scheduler makes 5e-3 or more.
        assert torch.allclose(latents[index].double(), expected[0], atol=2e-4)


@pytest.mark.parametrize("steps", [30, 50, 10, 4])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_dpm_solver_is_that_of_the_paper(steps, scale):
    denoiser = MixtureDenoiser(SCALED_LINEAR, 1, learned_variance=False)
    entry = UVIT.model_copy(update={"sampling_steps": steps})
    latents, _ = sample(denoiser, entry, SCALED_LINEAR, range(3), SHAPE, 0, scale, classes=2)
    for index, generator in enumerate(sample_generators(0, range(3))):
        expected = dpm_solver_in_float64(denoiser, steps, generator, scale)
        # As above.
        assert torch.allclose(latents[index].double(), expected[0], atol=2e-4)


def test_timesteps_of_ddpm_are_respaced_with_rounding():
    scheduler = ddpm_scheduler(LINEAR)
    scheduler.set_timesteps(250)
    timesteps = scheduler.timesteps.tolist()
    assert len(timesteps) == 250
    assert timesteps[:3] == [999, 995, 991] and timesteps[-2:] == [4, 0]


def test_timesteps_and_orders_of_dpm_solver_are_the_golden_ones():
    scheduler = dpm_solver_scheduler(SCALED_LINEAR)
    scheduler.set_timesteps(30)
    timesteps = scheduler.timesteps.tolist()
    assert timesteps[:6] == [999, 966, 932, 899, 866, 832] and timesteps[-2:] == [67, 33]
    assert scheduler.order_list == [1, 2, 3] * 9 + [1, 2, 1]
    scheduler.set_timesteps(50)
    assert scheduler.order_list == [1, 2, 3] * 16 + [1, 2]


def test_networks_see_timesteps_in_their_own_count():
    for entry, schedule, first, expected in ((DIT, LINEAR, 0, 999), (UVIT, SCALED_LINEAR, 1, 1000)):
        denoiser = MixtureDenoiser(schedule, first, learned_variance=entry is DIT)
        few = entry.model_copy(update={"sampling_steps": 3})
        sample(denoiser, few, schedule, [0], SHAPE, 0, 1.0, classes=2)
        assert denoiser.calls[0] == (1, expected)


@pytest.mark.parametrize(("entry", "schedule", "first"), [(DIT, LINEAR, 0), (UVIT, SCALED_LINEAR, 1)])
def test_the_sample_set_is_a_function_of_seed_and_index(entry, schedule, first):
    denoiser = MixtureDenoiser(schedule, first, learned_variance=entry is DIT)
    few = entry.model_copy(update={"sampling_steps": 6})

    def draw(indices, seed=0):
        return sample(denoiser, few, schedule, indices, SHAPE, seed, 1.5, classes=2)

    latents, labels = draw(range(8))
    assert len(set(labels.tolist())) == 2
    for cut in ([range(3), range(3, 8)], [[i] for i in range(8)]):
        parts = [draw(indices) for indices in cut]
        # An elementwise denoiser does not care how a batch is cut, so equality is exact.
        assert torch.equal(torch.cat([part[0] for part in parts]), latents)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    shuffled, shuffled_labels = draw([5, 1, 7])
    assert torch.equal(shuffled, latents[[5, 1, 7]]) and torch.equal(shuffled_labels, labels[[5, 1, 7]])
    assert not torch.equal(draw(range(8), seed=1)[0], latents)


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo"])
def test_real_networks_give_the_same_samples_in_any_batches(name):
    torch.manual_seed(0)
    entry = CONFIG.entry("diffusion", name)
    schedule = CONFIG.entry("recipes", entry.recipe).noise_schedule
    denoiser = build_denoiser(entry, 4, 4, 2, 5)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.05)

    def draw(indices):
        return sample(denoiser, entry, schedule, indices, (4, 4, 4), 0, 1.5, classes=5)

    whole, labels = draw(range(6))
    parts = [draw([0, 1, 2, 3]), draw([4]), draw([5])]
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    # Matrix products round differently at different batch sizes.
    assert torch.allclose(torch.cat([part[0] for part in parts]), whole, rtol=1e-3, atol=1e-3)


def test_labels_do_not_depend_on_the_latent_shape():
    wide = build_denoiser(CONFIG.entry("diffusion", "uvit-demo"), 8, 2, 1, 5)
    narrow = build_denoiser(CONFIG.entry("diffusion", "uvit-demo"), 2, 4, 2, 5)
    entry = CONFIG.entry("diffusion", "uvit-demo").model_copy(update={"sampling_steps": 1})
    _, first = sample(wide, entry, SCALED_LINEAR, range(20), (8, 2, 2), 3, 1.0, classes=5)
    _, second = sample(narrow, entry, SCALED_LINEAR, range(20), (2, 4, 4), 3, 1.0, classes=5)
    assert torch.equal(first, second)


def test_labels_are_uniform():
    counts = torch.bincount(draw_labels(sample_generators(0, range(5000)), 10), minlength=10)
    # Multinomial: five standard errors of 500 +- 21.
    assert len(counts) == 10 and (counts - 500).abs().max() < 5 * math.sqrt(5000 * 0.1 * 0.9)


def test_neighbouring_samples_start_from_independent_noise():
    noise = torch.stack([torch.randn(64, generator=generator) for generator in sample_generators(0, range(400))])
    assert len(noise.unique(dim=0)) == 400
    # Correlation of neighbours over 399 x 64 pairs: five standard errors.
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 / math.sqrt(399 * 64)
    assert abs(noise.mean()) < 5 / math.sqrt(400 * 64)


class Constant(nn.Module):
    """Returns 1 for a class and 0 for "no class", and remembers the sizes of its batches."""

    null_label, first_timestep = 1, 0

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, latents, timesteps, labels):
        self.batches.append(len(latents))
        return (1.0 - labels)[:, None, None, None].expand(-1, 8, 3, 3)


def test_guidance_scale_one_takes_one_pass():
    denoiser, latents, labels = Constant(), torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.long)
    assert torch.equal(predict(denoiser, latents, 5, labels, 1.0), torch.ones(2, 8, 3, 3))
    predict(denoiser, latents, 5, labels, 1.5)
    assert denoiser.batches == [2, 4], "guidance runs both passes as one batch"


@pytest.mark.parametrize(("guided_channels", "number"), [("all", 4), ("first-three", 3)])
def test_guidance_concerns_the_chosen_channels_of_the_noise(guided_channels, number):
    latents, labels = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.long)
    output = predict(Constant(), latents, 5, labels, 1.5, guided_channels)
    expected = torch.ones(2, 8, 3, 3)
    expected[:, :number] = 1.5
    assert torch.equal(output, expected)


def test_what_does_not_go_together_is_refused():
    dit, u_vit = (MixtureDenoiser(LINEAR, 0, learned_variance) for learned_variance in (True, False))

    def draw(denoiser, entry, scale=1.0, classes=2, **changes):
        sample(denoiser, entry.model_copy(update=changes), LINEAR, [0], SHAPE, 0, scale, classes)

    with pytest.raises(ValueError, match="sampler ddpm needs a denoiser with 8 output channels"):
        draw(u_vit, DIT)
    with pytest.raises(ValueError, match="sampling_steps of 2 or more"):
        draw(dit, DIT, sampling_steps=1)
    with pytest.raises(ValueError, match="classes is 5, but the denoiser was built with classes=2"):
        draw(dit, DIT, classes=5)
    dit.null_label = 0
    with pytest.raises(ValueError, match="an unconditional denoiser needs guidance_scale=1"):
        draw(dit, DIT, scale=1.5, classes=0)


def test_unconditional_samples():
    denoiser = build_denoiser(CONFIG.entry("diffusion", "dit-demo"), 4, 4, 2, 0)
    latents, labels = sample(
        denoiser, CONFIG.entry("diffusion", "dit-demo"), LINEAR, range(2), (4, 4, 4), 0, 1.0, classes=0
    )
    assert latents.shape == (2, 4, 4, 4) and labels.tolist() == [0, 0]
