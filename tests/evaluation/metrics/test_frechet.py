# SPDX-License-Identifier: Apache-2.0
"""Fréchet distances against scipy and the formula of the field."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluation.metrics.frechet
from evaluation.metrics.frechet import Moments, frechet_distance, frechet_distance_of_features


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


@pytest.mark.parametrize("smallest", [1e-2, 1e-4, 1e-6, 1e-9])
def test_both_ways_to_factor_a_covariance_give_one_distance(smallest, monkeypatch):
    """Standard deviations that fall to ``smallest``: Cholesky's way at first, eigenvectors where that is unsure."""
    a, b = (moments(features(300, 64, seed, decay=-math.log10(smallest))) for seed in (1, 2))
    found = frechet_distance(*a, *b)
    monkeypatch.setattr(evaluation.metrics.frechet, "FULL_RANK", math.inf)  # eigenvectors only
    # Square roots of the smallest eigenvalues, 1e-8 of the largest, are known to 1e-8 of the distance.
    assert found == pytest.approx(frechet_distance(*a, *b), rel=1e-8)
