# SPDX-License-Identifier: Apache-2.0
"""Fréchet distances against scipy and the formula of the field; error bars against analysis and simulation."""

import itertools
import math
import time

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.statistics import (
    Moments,
    frechet_distance,
    frechet_distance_of_features,
    jackknife_frechet,
    mean_and_standard_error,
)


def features(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0, decay: float = 1.0) -> torch.Tensor:
    """Correlated Gaussian features whose standard deviations fall by ``decay`` orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64))[0]
    deviations = torch.logspace(0, -decay, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * deviations @ mixing * scale + shift


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.mean(0), torch.cov(x.T)


def field_formula(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """As pytorch-fid, clean-fid and ADM's evaluator write it: a matrix square root of the product, real part."""
    root = scipy.linalg.sqrtm(covariance_a.numpy() @ covariance_b.numpy()).real
    difference = (mean_a - mean_b).numpy()
    return float(difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.trace(root))


def test_equals_the_matrix_square_root_formula():
    a, b = moments(features(500, 64, 1)), moments(features(400, 64, 2, scale=1.3, shift=0.2))
    # Full rank: both are exact up to rounding, sqrtm of a product of condition 1e4 to about 1e-10.
    assert frechet_distance(*a, *b) == pytest.approx(field_formula(*a, *b), rel=1e-9)


def test_diagonal_gaussians_have_a_closed_form():
    deviations_a, deviations_b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 0.5, 3.0])
    mean_a, mean_b = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    expected = float(((mean_a - mean_b) ** 2 + (deviations_a - deviations_b) ** 2).sum())
    distance = frechet_distance(mean_a, torch.diag(deviations_a**2), mean_b, torch.diag(deviations_b**2))
    assert distance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (60, 40), (40, 500), (500, 40), (500, 400)])
@pytest.mark.parametrize("decay", [0.0, 3.0])
def test_moments_and_features_agree_at_any_rank(n, m, decay):
    a, b = features(n, 128, 1, decay=decay), features(m, 128, 2, scale=1.2, decay=decay)
    # The features' nuclear norm is exact. From moments, directions of variance below 1e-14 of the largest are lost.
    exact = frechet_distance_of_features(a, b)
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(exact, rel=1e-7)


def test_rank_deficient_moments_are_more_exact_than_the_matrix_square_root():
    a, b = features(30, 128, 1), features(30, 128, 2)
    exact = frechet_distance_of_features(a, b)
    ours = abs(frechet_distance(*moments(a), *moments(b)) - exact)
    field = abs(field_formula(*moments(a), *moments(b)) - exact)
    assert ours < 1e-10 < field


def test_clean_fid_computes_the_same():
    from cleanfid.fid import frechet_distance as clean_fid_distance

    a, b = moments(features(300, 32, 3)), moments(features(300, 32, 4, shift=0.5))
    with pytest.warns(DeprecationWarning):  # it calls sqrtm(disp=False)
        expected = clean_fid_distance(*(each.numpy() for each in (*a, *b)))
    assert frechet_distance(*a, *b) == pytest.approx(float(expected), rel=1e-9)


def test_a_set_has_no_distance_to_itself_and_a_shift_counts_squared():
    a = features(50, 100, 5)
    assert frechet_distance_of_features(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance_of_features(a, a + 0.1) == pytest.approx(100 * 0.01, rel=1e-9)


def test_a_large_common_mean_costs_no_accuracy():
    a, b = features(50, 100, 5), features(60, 100, 6)
    # float64 holds 1e6 + x to 1e-10.
    assert frechet_distance_of_features(a + 1e6, b + 1e6) == pytest.approx(frechet_distance_of_features(a, b), rel=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), torch.eye(3), torch.zeros(2), torch.eye(2)), "shapes"),
        ((torch.zeros(2), torch.eye(2), torch.tensor([0, math.nan]), torch.eye(2)), "finite"),
    ],
)
def test_bad_moments_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(*arguments)


def test_bad_features_are_errors():
    with pytest.raises(ValueError, match="N, M >= 2"):
        frechet_distance_of_features(torch.zeros(1, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="N, M >= 2"):
        frechet_distance_of_features(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="paired"):
        jackknife_frechet(torch.randn(5, 3), torch.randn(6, 3), paired=True)


# --- moments --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 79), max_size=6, unique=True), shift=st.floats(-50, 50), seed=st.integers(0, 99))
def test_moments_do_not_depend_on_how_a_set_is_cut(cuts, shift, seed):
    x = features(80, 5, seed, shift=shift)
    edges = [0, *sorted(cuts), 80]
    merged = Moments.of(x[: edges[1]])
    for start, end in itertools.pairwise(edges[1:]):
        merged = merged.merged(Moments.of(x[start:end]))
    whole = Moments.of(x)
    assert merged.count == 80
    # 80 additions in float64 of numbers up to 50, against a scatter of about 80.
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(merged.covariance, torch.cov(x.T), rtol=1e-10, atol=1e-10)


def test_taking_a_part_out_undoes_merging():
    x = features(60, 7, 0, shift=3.0)
    rest = Moments.of(x).without(Moments.of(x[:9]))
    torch.testing.assert_close(rest.mean, x[9:].mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(rest.covariance, torch.cov(x[9:].T), rtol=1e-10, atol=1e-12)


def test_float32_features_are_summed_in_float64():
    x = (features(2000, 3, 0) + 1000).float()
    torch.testing.assert_close(Moments.of(x).covariance, torch.cov(x.double().T), rtol=1e-12, atol=0)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments.of(torch.zeros(1, 2)).covariance


# --- error bars -----------------------------------------------------------------------------------------------------


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
    assert jackknife_frechet(a, b, paired=paired) == pytest.approx(jackknife_by_hand(a, b, paired), rel=1e-6)


def test_the_moments_of_a_large_reference_suffice():
    a, b = features(200, 5, 0), features(300, 5, 1, scale=1.5)
    reference = Moments.of(b)
    assert frechet_distance_of_features(a, reference) == pytest.approx(frechet_distance_of_features(a, b), rel=1e-12)
    assert jackknife_frechet(a, reference) == pytest.approx(jackknife_frechet(a, b), rel=1e-12)
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
    assert jackknife_frechet(x, reference) == pytest.approx(analytic, rel=0.25)  # 64 groups: 9 % of spread, 2.8 sigma


def test_jackknife_tells_the_spread_over_repetitions():
    reference = features(400, 4, 999, scale=1.5)
    sets = [features(200, 4, seed) for seed in range(60)]
    spread = torch.tensor([frechet_distance_of_features(x, reference) for x in sets]).std()
    errors = torch.tensor([jackknife_frechet(x, reference) for x in sets[:12]]).mean()
    assert float(errors / spread) == pytest.approx(1, abs=0.35)  # the spread of 60 is known to 9 %, the errors to 10 %


def test_unequal_groups_weigh_by_their_size():
    x, reference = features(130, 3, 0), features(300, 3, 1, scale=2)
    equal = jackknife_frechet(x[:128], reference)
    unequal = jackknife_frechet(x, reference)  # 64 groups of 2, two of them with 3
    assert unequal == pytest.approx(equal, rel=0.15)


def test_distance_and_jackknife_of_a_demo_cell_are_fast():
    a = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0)).relu()
    b = a + 0.1 * torch.randn(64, 2048, generator=torch.Generator().manual_seed(1))
    jackknife_frechet(a[:8], b[:8], paired=True)
    start = time.process_time()
    frechet_distance_of_features(a, b)
    jackknife_frechet(a, b, paired=True)
    assert time.process_time() - start < 0.6  # CPU seconds; 0.1 on an idle core


def test_mean_and_standard_error():
    mean, error = mean_and_standard_error([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert mean_and_standard_error([3.0]) == (3.0, None)
    assert mean_and_standard_error([3.0, math.inf]) == (math.inf, None)
    with pytest.raises(ValueError, match="at least one"):
        mean_and_standard_error([])
    with pytest.raises(ValueError, match="NaN"):
        mean_and_standard_error([1.0, math.nan])
