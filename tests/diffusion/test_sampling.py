# SPDX-License-Identifier: Apache-2.0
"""The samplers against independent step-by-step implementations in float64, and the purity of the sample set."""

import math

import pytest
import torch
from torch import nn

from dcae.benchmark.config import Config
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.objectives import alphas_cumprod
from dcae.diffusion.sampling import draw_conditions, predict, sample, sample_generators, scheduler_of

CONFIG = Config()
DIT, UVIT, USIT, PIXART = (CONFIG.entry("diffusion", name) for name in ("dit-xl", "uvit-s", "usit-h", "pixart-xl"))
MULTISTEP = UVIT.model_copy(update={"sampler": "dpm-solver++-multistep", "sampling_steps": 20})
LINEAR, SCALED_LINEAR = (CONFIG.entry("recipes", name).noise_schedule for name in ("dit", "uvit"))
SHAPE = (4, 3, 3)


class MixtureDenoiser(nn.Module):
    """The exact denoiser of a mixture of two Gaussians, one per class, in float64; so it is sampled in float64.

    With learned variance the position in the range is a smooth function of the latents.
    """

    null_label = 2

    def __init__(self, schedule, first_timestep: int, learned_variance: bool):
        super().__init__()
        self.remaining, self.first_timestep = alphas_cumprod(schedule), first_timestep
        self.learned_variance, self.out_channels = learned_variance, SHAPE[0] * (2 if learned_variance else 1)
        self.place = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.calls = []

    def forward(self, latents, timesteps, labels):
        self.calls.append((latents, float(timesteps[0])))
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
    timesteps = torch.tensor([timestep], dtype=torch.float64 if isinstance(timestep, float) else torch.long)

    def output(label):
        return denoiser(latents, timesteps, torch.tensor([label]))

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
            x = x + (0.5 * log_variance).exp() * torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64)
    return x


def dpm_solver_in_float64(denoiser, steps: int, generator, scale: float) -> torch.Tensor:
    """DPM-Solver++ (Lu et al. 2022), single-step, orders 3, 3, ... and the rest, with diffusers' two conventions."""
    label = int(torch.randint(2, (1,), generator=generator))
    x = torch.randn(1, *SHAPE, generator=generator).double()
    times = [round((steps - i) * (999 / steps)) for i in range(steps + 1)]
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


def assert_equal_over_all_steps(denoiser, entry, schedule, scale: float, evaluations: int, reference) -> None:
    """What the network is given at every evaluation, and the samples, are those of a reference for one sample."""
    latents, _ = sample(denoiser, entry, schedule, range(3), SHAPE, 0, scale, classes=2)
    ours = denoiser.calls
    assert [len(given) for given, _ in ours] == [3 if scale == 1 else 6] * evaluations, "both passes are one batch"
    for index, generator in enumerate(sample_generators(0, range(3))):
        denoiser.calls = []
        expected = reference(denoiser, entry.sampling_steps, generator, scale)
        theirs = denoiser.calls[::2]  # the references take one pass after the other
        assert len(theirs) == len(ours)
        for (given, time), (expected_given, expected_time) in zip(ours, theirs, strict=True):
            assert time == pytest.approx(expected_time, abs=1e-12)
            assert torch.allclose(given[index], expected_given[0], atol=1e-5, rtol=0)
        # All in float64; a wrong argument of a scheduler makes 5e-3 or more.
        assert torch.allclose(latents[index], expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [250, 20])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_ddpm_is_that_of_the_paper(steps, scale):
    denoiser = MixtureDenoiser(LINEAR, 0, learned_variance=True)
    entry = DIT.model_copy(update={"sampling_steps": steps})
    assert_equal_over_all_steps(denoiser, entry, LINEAR, scale, steps, ddpm_in_float64)


@pytest.mark.parametrize("steps", [30, 50, 10, 4])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_dpm_solver_is_that_of_the_paper(steps, scale):
    denoiser = MixtureDenoiser(SCALED_LINEAR, 1, learned_variance=False)
    entry = UVIT.model_copy(update={"sampling_steps": steps})
    assert_equal_over_all_steps(denoiser, entry, SCALED_LINEAR, scale, steps, dpm_solver_in_float64)


def multistep_in_float64(denoiser, steps: int, generator, scale: float) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): the first step, and in few steps the last, of order 1."""
    label = int(torch.randint(2, (1,), generator=generator))
    x = torch.randn(1, *SHAPE, generator=generator).double()
    times = [round(999 - i * 999 / steps) for i in range(steps)] + [0]
    remaining = alphas_cumprod(LINEAR)[times]
    alpha, sigma = remaining.sqrt(), (1 - remaining).sqrt()
    lam = alpha.log() - sigma.log()
    before = None
    for i in range(steps):
        epsilon = guided(denoiser, x, times[i], label, scale)[:, : SHAPE[0]]
        data = used = (x - sigma[i] * epsilon) / alpha[i]
        if i and not (i == steps - 1 and steps < 15):
            ratio = (lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i])
            used = data + (data - before) / (2 * ratio)
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * torch.expm1(lam[i] - lam[i + 1]) * used
        before = data
    return x


@pytest.mark.parametrize("steps", [20, 50, 10])
@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_multistep_dpm_solver_is_that_of_the_paper(steps, scale):
    denoiser = MixtureDenoiser(LINEAR, 0, learned_variance=True)
    entry = MULTISTEP.model_copy(update={"sampling_steps": steps})
    assert_equal_over_all_steps(denoiser, entry, LINEAR, scale, steps, multistep_in_float64)


class Flow(nn.Module):
    """The exact velocity from noise to a Gaussian of a mean for each class and deviation 0.5, in float64.

    Along it (x - t * mean) / deviation(t) stays as it is, so noise z ends up at mean + 0.5 z.
    """

    null_label, first_timestep, out_channels = 2, 1, SHAPE[0]
    means = (-1.0, 2.0, 0.5)

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.calls = []

    def forward(self, latents, times, labels):
        self.calls.append((latents, float(times[0])))
        t = times[:, None, None, None]
        mean = torch.tensor(self.means, dtype=latents.dtype)[labels][:, None, None, None]
        variance = (0.5 * t) ** 2 + (1 - t) ** 2
        return mean + (0.25 * t - (1 - t)) / variance * (latents - t * mean)


def heun_in_float64(denoiser, points: int, generator, scale: float) -> torch.Tensor:
    """Heun's second-order method (explicit trapezoidal rule) with equal steps from 0 to 1, one sample."""
    label = int(torch.randint(2, (1,), generator=generator))
    x = torch.randn(1, *SHAPE, generator=generator).double()
    step = 1 / (points - 1)
    for i in range(points - 1):
        first = guided(denoiser, x, i * step, label, scale)
        second = guided(denoiser, x + step * first, (i + 1) * step, label, scale)
        x = x + step / 2 * (first + second)
    return x


@pytest.mark.parametrize("points", [250, 20, 2])
@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_heun_is_that_of_the_textbook(points, scale):
    entry = USIT.model_copy(update={"ode_solver": "heun2", "sampling_steps": points})
    assert_equal_over_all_steps(Flow(), entry, None, scale, 2 * (points - 1), heun_in_float64)


def dopri5_in_float64(denoiser, generator, scale: float) -> tuple[torch.Tensor, int]:
    """Dormand & Prince's method of order 5, with Shampine's error and midpoint; one sample, and the rejected steps.

    Step sizes are Hairer's (Solving Ordinary Differential Equations I, section II.4), not shrunk after a step that is
    good enough. The last step goes beyond time 1, where the sample lies on a polynomial of degree 4.
    """
    label = int(torch.randint(2, (1,), generator=generator))
    x, time = torch.randn(1, *SHAPE, generator=generator).double(), 0.0
    nodes = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]
    weights = [
        [],
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ]
    fourth_order = [1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60]
    midpoint = [
        6025192743 / 30085553152, 0, 51252292925 / 65400821598, -2691868925 / 45128329728,
        187940372067 / 1594534317056, -1776094331 / 19743644256, 11237099 / 235043384,
    ]  # fmt: skip

    def velocity(at, latents):
        return guided(denoiser, latents, at, label, scale)

    def size(values, beside):
        return float((values / (1e-6 + 1e-3 * beside)).square().mean().sqrt())

    def along(slopes, factors):
        return sum(factor * slope for factor, slope in zip(factors, slopes, strict=True))

    first = velocity(0.0, x)
    step = 0.01 * size(x, x.abs()) / size(first, x.abs())
    curvature = size(velocity(step, x + step * first) - first, x.abs()) / step
    step = min(100 * step, (0.01 / max(size(first, x.abs()), curvature)) ** (1 / 5))
    rejected = 0
    while True:
        slopes = [first]
        for node, factors in zip(nodes[1:], weights[1:], strict=True):
            after = x + step * along(slopes, factors)
            slopes.append(velocity(time + node * step, after))
        error = size(step * (along(slopes[:6], weights[6]) - along(slopes, fourth_order)), x.abs().maximum(after.abs()))
        factor = min(10.0, max(0.9 * error ** (-1 / 5), 1.0 if error < 1 else 0.2))
        if error > 1:
            rejected += 1
        elif time + step >= 1:
            break
        else:
            x, time, first = after, time + step, slopes[-1]
        step *= factor
    middle = x + step / 2 * along(slopes, midpoint)
    # The polynomial of degree 4 with the values x, middle and after and the slopes at both ends.
    start, end = step * slopes[0], step * slopes[-1]
    powers = torch.tensor([[1.0, 1, 1, 1], [1 / 2, 1 / 4, 1 / 8, 1 / 16], [1, 0, 0, 0], [1, 2, 3, 4]]).double()
    values = torch.stack([after - x, middle - x, start, end]).flatten(1)
    coefficients = torch.linalg.solve(powers, values).unflatten(1, x.shape)
    part = (1 - time) / step
    return x + sum(part**power * each for power, each in enumerate(coefficients, start=1)), rejected


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_dopri5_is_that_of_the_textbook(scale):
    entry, denoiser, refused = USIT.model_copy(update={"ode_solver": "dopri5"}), Flow(), 0
    for index, generator in enumerate(sample_generators(0, range(3))):
        denoiser.calls = []
        latents, _ = sample(denoiser, entry, None, [index], SHAPE, 0, scale, classes=2)
        ours, denoiser.calls = denoiser.calls, []
        expected, rejected = dopri5_in_float64(denoiser, generator, scale)
        refused += rejected
        theirs = denoiser.calls[::2]
        assert len(ours) == len(theirs) and {len(given) for given, _ in ours} == {1 if scale == 1 else 2}
        for (given, time), (expected_given, expected_time) in zip(ours, theirs, strict=True):
            assert time == pytest.approx(expected_time, abs=1e-5)
            assert torch.allclose(given[0], expected_given[0], atol=1e-5, rtol=0)
        assert torch.allclose(latents, expected, atol=1e-5, rtol=0)
    assert refused or scale != 1, "some steps were too long and taken again"


# Errors of 250 points are of order 1 / 250 squared. dopri5 adds up errors of 1e-3 for each of its 15 steps.
@pytest.mark.parametrize(("solver", "error"), [("heun2", 5e-5), ("dopri5", 0.05)])
def test_the_ode_leads_from_noise_to_data(solver, error):
    entry = USIT.model_copy(update={"ode_solver": solver})
    latents, labels = sample(Flow(), entry, None, range(4), SHAPE, 0, 1.0, classes=2)
    for index, generator in enumerate(sample_generators(0, range(4))):
        assert torch.randint(2, (1,), generator=generator) == labels[index]
        noise = torch.randn(SHAPE, generator=generator).double()
        assert torch.allclose(latents[index], Flow.means[labels[index]] + 0.5 * noise, atol=error, rtol=0)


def test_adaptive_steps_depend_on_no_neighbour():
    entry = USIT.model_copy(update={"ode_solver": "dopri5"})
    together, _ = sample(Flow(), entry, None, range(4), SHAPE, 0, 1.2, classes=2)
    alone = [sample(Flow(), entry, None, [index], SHAPE, 0, 1.2, classes=2)[0] for index in range(4)]
    assert torch.equal(torch.cat(alone), together)


def test_timesteps_of_ddpm_are_respaced_with_rounding():
    scheduler = scheduler_of("ddpm", LINEAR, 250)
    timesteps = scheduler.timesteps.tolist()
    assert len(timesteps) == 250
    assert timesteps[:3] == [999, 995, 991] and timesteps[-2:] == [4, 0]


def test_timesteps_and_orders_of_dpm_solver_are_the_golden_ones():
    scheduler = scheduler_of("dpm-solver++", SCALED_LINEAR, 30)
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
        assert denoiser.calls[0][1] == expected


@pytest.mark.parametrize(
    ("entry", "schedule", "first"),
    [(DIT, LINEAR, 0), (UVIT, SCALED_LINEAR, 1), (MULTISTEP, LINEAR, 0), (USIT, None, 0)],
)
def test_the_sample_set_is_a_function_of_seed_and_index(entry, schedule, first):
    denoiser = MixtureDenoiser(schedule, first, learned_variance=entry is DIT) if schedule else Flow()
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


class SomeCaptions:
    """Embedded captions of random content, as ``CaptionDataset``."""

    empty = Captions(torch.zeros(1, 6, 64).half(), torch.tensor([[True] + [False] * 5]))

    def __init__(self, count: int):
        self.count = count
        self.embeddings = torch.randn(count, 6, 64, generator=torch.Generator().manual_seed(0)).half()

    def __len__(self):
        return self.count

    def batch(self, indices):
        return self.embeddings[indices], torch.ones(len(indices), 6, dtype=torch.bool)


@pytest.mark.parametrize("name", ["dit-demo", "uvit-demo", "pixart-demo"])
def test_real_networks_give_the_same_samples_in_any_batches(name):
    torch.manual_seed(0)
    entry = CONFIG.entry("diffusion", name)
    schedule = CONFIG.entry("recipes", entry.recipe).noise_schedule
    denoiser = build_denoiser(entry, 4, 4, 2, 5)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.05)
    captions = SomeCaptions(4) if name == "pixart-demo" else None

    def draw(indices):
        return sample(denoiser, entry, schedule, indices, (4, 4, 4), 0, 1.5, classes=5, captions=captions)

    whole, labels = draw(range(6))
    parts = [draw([0, 1, 2, 3]), draw([4]), draw([5])]
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    # Matrix products round differently at different batch sizes.
    assert torch.allclose(torch.cat([part[0] for part in parts]), whole, rtol=1e-4, atol=1e-4)


def test_captions_are_taken_in_their_order_and_guided_against_the_empty_one():
    entry = CONFIG.entry("diffusion", "pixart-demo").model_copy(update={"sampling_steps": 1})
    captions, seen = SomeCaptions(3), []

    class Watched(Constant):
        null_label, out_channels = 0, 8

        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.zeros(()))

        def forward(self, latents, timesteps, condition):
            seen.append(condition)
            return torch.zeros(len(latents), 8, 3, 3)

    _, which = sample(Watched(), entry, LINEAR, [1, 2, 3, 7], SHAPE, 0, 1.5, classes=12, captions=captions)
    assert which.tolist() == [1, 2, 0, 1]
    (condition,) = seen
    assert torch.equal(condition.embeddings[:4], captions.embeddings[which].float())
    assert torch.equal(condition.embeddings[4:], captions.empty.embeddings.float().expand(4, 6, 64))
    assert condition.mask[4:].sum(dim=1).tolist() == [1] * 4


def test_labels_do_not_depend_on_the_latent_shape():
    wide = build_denoiser(CONFIG.entry("diffusion", "uvit-demo"), 8, 2, 1, 5)
    narrow = build_denoiser(CONFIG.entry("diffusion", "uvit-demo"), 2, 4, 2, 5)
    entry = CONFIG.entry("diffusion", "uvit-demo").model_copy(update={"sampling_steps": 1})
    _, first = sample(wide, entry, SCALED_LINEAR, range(20), (8, 2, 2), 3, 1.0, classes=5)
    _, second = sample(narrow, entry, SCALED_LINEAR, range(20), (2, 4, 4), 3, 1.0, classes=5)
    assert torch.equal(first, second)


def test_labels_are_uniform():
    counts = torch.bincount(draw_conditions(sample_generators(0, range(5000)), range(5000), 10), minlength=10)
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
    timesteps = torch.tensor([5, 5])
    assert torch.equal(predict(denoiser, latents, timesteps, labels, 1.0), torch.ones(2, 8, 3, 3))
    predict(denoiser, latents, timesteps, labels, 1.5)
    assert denoiser.batches == [2, 4], "guidance runs both passes as one batch"


@pytest.mark.parametrize(("guided_channels", "number"), [("all", 4), ("first-three", 3)])
def test_guidance_concerns_the_chosen_channels_of_the_noise(guided_channels, number):
    latents, labels = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.long)
    output = predict(Constant(), latents, torch.tensor([5, 5]), labels, 1.5, guided_channels)
    expected = torch.ones(2, 8, 3, 3)
    expected[:, :number] = 1.5
    assert torch.equal(output, expected)


def test_what_does_not_go_together_is_refused():
    dit, u_vit = (MixtureDenoiser(LINEAR, 0, learned_variance) for learned_variance in (True, False))

    def draw(denoiser, entry, scale=1.0, classes=2, schedule=LINEAR, captions=None, **changes):
        entry = entry.model_copy(update=changes)
        sample(denoiser, entry, schedule, [0], SHAPE, 0, scale, classes, captions)

    with pytest.raises(ValueError, match="sampler ddpm needs a denoiser with 8 output channels"):
        draw(u_vit, DIT)
    with pytest.raises(ValueError, match="sampling_steps of 2 or more"):
        draw(dit, DIT, sampling_steps=1)
    with pytest.raises(ValueError, match="classes is 5, but the denoiser was built with classes=2"):
        draw(dit, DIT, classes=5)
    with pytest.raises(ValueError, match="the noise schedule is given, but sampler is ode"):
        draw(Flow(), USIT)
    with pytest.raises(ValueError, match=r"the noise schedule is missing, but sampler is dpm-solver\+\+"):
        draw(u_vit, UVIT, schedule=None)
    with pytest.raises(ValueError, match="captions are given, but conditioning is class"):
        draw(dit, DIT, captions=SomeCaptions(1))
    dit.null_label = 0
    with pytest.raises(ValueError, match="captions are missing, but conditioning is caption"):
        draw(dit, PIXART)
    with pytest.raises(ValueError, match="an unconditional denoiser needs guidance_scale=1"):
        draw(dit, DIT, scale=1.5, classes=0)


def test_unconditional_samples():
    denoiser = build_denoiser(CONFIG.entry("diffusion", "dit-demo"), 4, 4, 2, 0)
    latents, labels = sample(
        denoiser, CONFIG.entry("diffusion", "dit-demo"), LINEAR, range(2), (4, 4, 4), 0, 1.0, classes=0
    )
    assert latents.shape == (2, 4, 4, 4) and labels.tolist() == [0, 0]


def test_unconditional_entries_take_no_notice_of_the_classes_of_the_data():
    changes = {"conditioning": "none", "guidance_scale": 1.0, "sampling_steps": 3}
    entry = CONFIG.entry("diffusion", "dit-demo").model_copy(update=changes)
    denoiser = build_denoiser(entry, 4, 4, 2, 5)
    assert sample(denoiser, entry, LINEAR, range(4), (4, 4, 4), 0, 1.0, classes=5)[1].tolist() == [0] * 4
