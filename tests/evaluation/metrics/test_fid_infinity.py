# SPDX-License-Identifier: Apache-2.0
"""FID∞ on distributions whose distance is known."""

import pytest
import torch

from evaluation.metrics.fid_infinity import frechet_infinity
from evaluation.metrics.frechet import Moments, frechet_distance_of_features

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
    # What the line's fit says of its error is of the size of the spread.
    assert 0.2 < float(torch.tensor([error for _, error in found]).mean() / values.std()) < 3


def test_pairs_stay_together_and_the_subsets_are_a_function_of_the_seed():
    images = sample(400, 0)
    made = images + 0.1 * sample(400, 1)
    paired = frechet_infinity(made, images, paired=True)
    assert paired == frechet_infinity(made, images, paired=True)
    assert paired != frechet_infinity(made, images, paired=True, seed=1)
    # Subsets of independent images would lie far further apart than pairs do.
    assert paired[0] < frechet_distance_of_features(made[:80], images[80:160]) / 10
