# SPDX-License-Identifier: Apache-2.0
"""FID∞ on distributions whose distance is known."""

import pytest
import torch

from evaluation.metrics.fid_infinity import frechet_infinity, sampling_error
from evaluation.metrics.frechet import Moments, frechet_distance_of_features
from evaluation.metrics.jackknife import jackknife_frechet

D, SHIFT = 16, 0.05


def sample(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bias_of_a_finite_sample_is_removed():
    """Standard normals a shift apart: the distance is D x SHIFT²; a sample of 1,000 gives more than twice that."""
    truth = D * SHIFT**2
    exact = Moments(10**9, torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64) * (10**9 - 1))
    plain = torch.tensor([frechet_distance_of_features(sample(1000, seed) + SHIFT, exact) for seed in range(12)])
    found = [frechet_infinity(sample(1000, seed) + SHIFT, exact) for seed in range(12)]
    assert plain.mean() > 2 * truth
    values = torch.tensor([value for value, _ in found])
    assert float(values.mean()) == pytest.approx(truth, abs=3 * float(values.std()) / 12**0.5)
    within = [abs(value - truth) < 2 * error for value, error in found]
    assert sum(within) >= 10, "of twelve, the fit's error alone holds eight to ten"


@pytest.mark.parametrize("paired", [False, True])
def test_the_sampling_error_is_that_of_the_jackknife(paired):
    images = sample(600, 0) * torch.linspace(1, 0.1, D, dtype=torch.float64)
    made = images * 0.9 + 0.2 * sample(600, 1) + SHIFT
    reference = images if paired else sample(4000, 2)
    expected = jackknife_frechet(made, reference, paired).standard_error
    assert sampling_error(made, reference, paired) == pytest.approx(
        expected, rel=0.25
    )  # 64 groups tell an error to 9 %


def test_the_error_is_that_of_repeated_samples():
    """At ten samples per dimension, the least that is allowed."""
    d, scale = 32, torch.logspace(0, -0.75, 32, dtype=torch.float64)
    exact = Moments(10**9, torch.zeros(d, dtype=torch.float64), torch.diag(scale**2) * (10**9 - 1))
    truth = float((scale**2).sum() * (0.1**2 + 0.2**2))
    found = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        made = (torch.randn(10 * d, d, generator=generator, dtype=torch.float64) * 1.1 + 0.2) * scale
        found.append(frechet_infinity(made, exact))
    values, errors = torch.tensor(found, dtype=torch.float64).T
    assert float(values.mean()) == pytest.approx(truth, rel=0.06)
    assert 0.8 < float(errors.mean() / values.std()) < 1.6
    assert ((values - truth).abs() < 1.96 * errors).sum() >= 36
    with pytest.raises(ValueError, match="FID∞ of 32 dimensions needs 320 samples, got 319"):
        frechet_infinity(made[1:], exact)


def test_pairs_stay_together_and_the_subsets_are_a_function_of_the_seed():
    images = sample(400, 0)
    made = images + 0.1 * sample(400, 1)
    paired = frechet_infinity(made, images, paired=True)
    assert paired == frechet_infinity(made, images, paired=True)
    assert paired != frechet_infinity(made, images, paired=True, seed=1)
    # Subsets of independent images would lie far further apart than pairs do.
    assert paired[0] < frechet_distance_of_features(made[:80], images[80:160]) / 10
