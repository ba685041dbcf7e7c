# SPDX-License-Identifier: Apache-2.0
"""KID against torch-fidelity and torchmetrics, CMMD against its formula; both unbiased where they say so."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.jackknife import group_sizes
from evaluation.metrics.kid_cmmd import (
    clip_mmd,
    gaussian_kernel,
    kernel_inception_distance,
    polynomial_kernel,
    squared_mmd,
)


def features(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_kid_of_one_subset_of_everything_is_torch_fidelitys():
    from torch_fidelity.metric_kid import kernel_mmd

    a, b = features(40, 12, 0), features(40, 12, 1, shift=0.3)
    options = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    expected = kernel_mmd(a.numpy(), b.numpy(), **options, kid_kernel_poly_coef0=1)
    assert kernel_inception_distance(a, b).estimate == pytest.approx(float(expected), rel=1e-9)


def test_kid_is_torchmetrics_too():
    from torchmetrics.image.kid import poly_mmd

    a, b = features(30, 12, 0), features(30, 12, 1, shift=0.3)
    assert kernel_inception_distance(a, b).estimate == pytest.approx(float(poly_mmd(a, b)), rel=1e-9)


def test_kid_is_unbiased_for_independent_sets_and_for_pairs():
    """Sets of one distribution: the mean over repetitions is zero, within three errors of it.

    Pairs that are nearly equal would pull the estimator for independent sets below zero.
    """
    independent, paired, wrong = [], [], []
    for seed in range(200):
        a, b = features(12, 4, seed), features(12, 4, 1000 + seed)
        independent.append(kernel_inception_distance(a, b).estimate)
        near = (a + 0.3 * b) / math.sqrt(1.09)  # of the same distribution as a
        paired.append(kernel_inception_distance(near, a, paired=True).estimate)
        wrong.append(kernel_inception_distance(near, a).estimate)
    for values in (independent, paired):
        assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))
    assert np.mean(wrong) < -3 * np.std(wrong) / math.sqrt(len(wrong))


def brute_force(kernel, a, b, estimator: str) -> float:
    n, m = len(a), len(b)
    aa, bb, ab = kernel(a, a), kernel(b, b), kernel(a, b)
    if estimator == "biased":
        return float(aa.mean() + bb.mean() - 2 * ab.mean())
    within = (aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1))
    return float(within - 2 * ((ab.sum() - ab.trace()) / (n * (n - 1)) if estimator == "paired" else ab.mean()))


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(5, 30),
    more=st.integers(0, 20),
    groups=st.integers(2, 9),
    estimator=st.sampled_from(["unbiased", "paired", "biased"]),
    kernel=st.sampled_from([polynomial_kernel, gaussian_kernel]),
)
def test_every_value_without_a_group_is_that_of_the_rest(n, more, groups, estimator, kernel):
    a, b = features(n, 3, 0), features(n + (0 if estimator == "paired" else more), 3, 1, shift=0.5)
    found = squared_mmd(kernel, a, b, estimator, groups)
    assert found.estimate == pytest.approx(brute_force(kernel, a, b, estimator), rel=1e-9, abs=1e-12)
    assert found.sizes == group_sizes(n, groups)
    for group, value in enumerate(found.left_out):
        kept = torch.arange(n) % len(found.sizes) != group
        expected = brute_force(kernel, a[kept], b[kept] if estimator == "paired" else b, estimator)
        assert value == pytest.approx(expected, rel=1e-8, abs=1e-11)


def test_the_standard_error_of_kid_is_its_spread_over_fresh_samples():
    reference = features(400, 6, 999)
    found = [kernel_inception_distance(features(150, 6, seed, shift=0.4), reference) for seed in range(60)]
    spread = np.std([each.estimate for each in found], ddof=1)
    assert np.mean([each.standard_error for each in found[:15]]) == pytest.approx(spread, rel=0.35)  # known to 9 %


def test_cmmd_is_its_authors_formula():
    """Biased, sigma 10, times 1000 (google-research, cmmd/distance.py), of embeddings of length 1."""
    a, b = features(20, 16, 0), features(25, 16, 1, shift=1.0)
    x, y = (each / each.norm(dim=1, keepdim=True) for each in (a, b))

    def mean_kernel(u, v):
        return float(torch.exp(-(torch.cdist(u, v) ** 2) / 200).mean())

    expected = 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))
    found = clip_mmd(a, b)
    assert found.estimate == pytest.approx(expected, rel=1e-6)  # cdist squares a root
    assert found.standard_error > 0
    assert clip_mmd(a, a).estimate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "estimator", "message"),
    [
        (torch.randn(2, 3), torch.randn(5, 3), "unbiased", "at least 3 samples of each set, got 2 and 5"),
        (torch.randn(5, 3), torch.randn(6, 3), "paired", "equally many, got 5 and 6"),
        (torch.full((5, 3), math.nan), torch.randn(5, 3), "unbiased", "finite"),
        (torch.randn(5, 3), torch.randn(5, 4), "unbiased", "shapes"),
    ],
)
def test_bad_features_are_errors(a, b, estimator, message):
    with pytest.raises(ValueError, match=message):
        squared_mmd(polynomial_kernel, a, b, estimator)
