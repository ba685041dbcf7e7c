# SPDX-License-Identifier: Apache-2.0
"""The jackknife of Fréchet distances against textbook, analysis and simulation, and why it is no bootstrap."""

import math

import numpy as np
import pytest
import torch

from evaluation.metrics.frechet import Moments, frechet_distance_of_features
from evaluation.metrics.jackknife import Jackknife, group_sizes, jackknife_frechet, mean_and_standard_error
from tests.evaluation.metrics.test_frechet import features


def jackknife_by_hand(a: torch.Tensor, b: torch.Tensor, paired: bool) -> float:
    """Delete-one jackknife, as in any textbook."""
    n = len(a)
    rest = [[j for j in range(n) if j != i] for i in range(n)]
    left_out = torch.tensor([frechet_distance_of_features(a[r], b[r] if paired else b) for r in rest])
    return float(((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()).sqrt())


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("d", [5, 60])  # by moments, and by Gram matrices
def test_jackknife_is_the_textbook_one(paired, d):
    a = features(20, d, 0)
    b = features(20, d, 1) + 0.5 * a
    assert jackknife_frechet(a, b, paired=paired).standard_error == pytest.approx(
        jackknife_by_hand(a, b, paired), rel=1e-6
    )


def test_the_moments_of_a_large_reference_suffice():
    a, b = features(200, 5, 0), features(300, 5, 1, scale=1.5)
    reference = Moments.of(b)
    assert frechet_distance_of_features(a, reference) == pytest.approx(frechet_distance_of_features(a, b), rel=1e-12)
    errors = [jackknife_frechet(a, each).standard_error for each in (reference, b)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-12)
    with pytest.raises(ValueError, match="paired"):
        jackknife_frechet(a, reference, paired=True)


def test_jackknife_of_a_mean_shift_is_the_analytic_error():
    """In one dimension with equal spreads the distance is the squared difference of means, up to O(1/n)."""
    n, shift = 4000, 5.0
    x = features(n, 1, 0, decay=0.0)
    reference = torch.linspace(-1, 1, 1000, dtype=torch.float64)[:, None]
    reference = reference / reference.std() - shift
    # Delta method: d(distance) = 2 (difference of means) d(mean) + 2 (s - 1) ds, and s is 1.
    analytic = 2 * float(x.mean() + shift) * float(x.std()) / math.sqrt(n)
    # 64 groups: 9 % of spread, 2.8 sigma
    assert jackknife_frechet(x, reference).standard_error == pytest.approx(analytic, rel=0.25)


def test_jackknife_tells_the_spread_over_repetitions():
    reference = features(400, 4, 999, scale=1.5)
    sets = [features(200, 4, seed) for seed in range(60)]
    spread = torch.tensor([frechet_distance_of_features(x, reference) for x in sets]).std()
    errors = torch.tensor([jackknife_frechet(x, reference).standard_error for x in sets[:12]]).mean()
    assert float(errors / spread) == pytest.approx(1, abs=0.35)  # the spread of 60 is known to 9 %, the errors to 10 %


def test_unequal_groups_weigh_by_their_size():
    x, reference = features(130, 3, 0), features(300, 3, 1, scale=2)
    equal = jackknife_frechet(x[:128], reference).standard_error
    unequal = jackknife_frechet(x, reference).standard_error  # 64 groups of 2, two of them with 3
    assert unequal == pytest.approx(equal, rel=0.15)


def test_mean_and_standard_error():
    mean, error = mean_and_standard_error([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert mean_and_standard_error([3.0]) == (3.0, None)
    assert mean_and_standard_error([3.0, math.inf]) == (3.0, None)
    assert mean_and_standard_error([1.0, math.inf, 2.0]) == mean_and_standard_error([1.0, 2.0])
    assert mean_and_standard_error([math.inf, math.inf]) == (math.inf, None)
    with pytest.raises(ValueError, match="at least one"):
        mean_and_standard_error([])
    with pytest.raises(ValueError, match="NaN"):
        mean_and_standard_error([1.0, math.nan])


def test_the_naive_bootstrap_is_biased_and_the_jackknife_is_not():
    """Resampled images count twice, so every bootstrap replicate has fewer distinct images than the sample.

    Reconstructions near their images: the case of rFID. Truth: the mean over fresh sets of the same size, since FID's
    bias at this size is part of what is estimated.
    """
    n, d = 300, 32

    def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = features(n, d, seed)
        return images + 0.2 * features(n, d, 10_000 + seed), images

    fresh = torch.tensor([frechet_distance_of_features(*pair(seed)) for seed in range(40)])
    made, images = pair(0)
    found = jackknife_frechet(made, images, paired=True)
    generator = torch.Generator().manual_seed(0)
    chosen = [torch.randint(n, (n,), generator=generator) for _ in range(40)]
    bootstrap = torch.tensor([frechet_distance_of_features(made[rows], images[rows]) for rows in chosen])
    # Every replicate lies above the estimate, by more than three of its own standard deviations on average.
    assert bootstrap.mean() > found.estimate + 3 * bootstrap.std()
    # Without a group the distance moves by little, and its error is that of fresh samples.
    assert abs(np.mean(found.left_out) - found.estimate) < 0.5 * found.standard_error
    assert found.standard_error == pytest.approx(float(fresh.std()), rel=0.4)  # the spread of 40 is known to 11 %
    assert abs(found.estimate - float(fresh.mean())) < 3 * found.standard_error


def test_a_paired_difference_has_a_far_smaller_error_than_its_parts():
    images = features(400, 16, 0)
    shared = 0.4 * features(400, 16, 1)
    one = jackknife_frechet(images + shared, images, paired=True)
    other = jackknife_frechet(images + 1.02 * shared, images, paired=True)
    difference = other.minus(one)
    assert difference.estimate == pytest.approx(other.estimate - one.estimate)
    assert difference.standard_error < 0.2 * math.hypot(one.standard_error, other.standard_error)


def test_estimates_over_other_numbers_of_images_are_not_paired():
    images = features(20, 4, 0)
    some = jackknife_frechet(images[:19] + 1, images[:19], paired=True)
    with pytest.raises(ValueError, match="19 and 20"):
        some.minus(jackknife_frechet(images + 1, images, paired=True))


def test_groups_are_the_image_index_modulo_their_number():
    assert group_sizes(5) == [1] * 5
    assert group_sizes(130) == [3, 3] + [2] * 62
    # Of a mean, group by group: textbook's error of the mean of group means, for groups of one size.
    x = np.arange(640.0) ** 2
    means = [x[np.arange(640) % 64 != group].mean() for group in range(64)]
    expected = np.std([x[group::64].mean() for group in range(64)], ddof=1) / 8
    assert Jackknife(x.mean(), means, group_sizes(640)).standard_error == pytest.approx(expected)


def test_bad_features_are_errors():
    with pytest.raises(ValueError, match="paired"):
        jackknife_frechet(torch.randn(5, 3), torch.randn(6, 3), paired=True)
    with pytest.raises(ValueError, match="at least 3"):
        jackknife_frechet(torch.randn(2, 3), torch.randn(2, 3), paired=True)
