# SPDX-License-Identifier: Apache-2.0
"""Effects between two values, and means over seeds: intervals by hand, and how often they cover the truth."""

import math
from statistics import fmean, variance

import numpy as np
import pytest
from scipy.stats import t as student

from dcae.benchmark import Value
from evaluation.metrics.effects import effect, mean_over_seeds


def value(size: float, error: float | None = 0.1, n: int = 100, **fields) -> Value:
    return Value(value=size, n=n, standard_error=error, **fields)


def test_the_interval_of_a_difference_of_independent_values_is_by_hand():
    found = effect(value(5.0, 0.3), value(3.0, 0.4))
    error = 0.5
    degrees = error**4 / ((0.3**4 + 0.4**4) / 99)
    half = student.ppf(0.975, degrees) * error
    assert found.estimate == 2.0
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert (found.n, found.seeds, found.covers_seeds, found.paired) == (100, (1, 1), False, False)


def test_a_ratio_is_compared_on_the_logarithmic_scale():
    found = effect(value(8.0, 0.8), value(4.0, 0.0), "ratio")
    half = student.ppf(0.975, 99) * 0.1
    assert found.estimate == 2.0
    assert (found.low, found.high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))
    assert effect(value(8.0), value(-1.0), "ratio") is None


def test_images_that_both_sides_share_cancel():
    draw = np.random.default_rng(0)
    shared = draw.normal(20, 5, 400)
    a, b = shared + draw.normal(1, 0.1, 400), shared + draw.normal(0, 0.1, 400)
    sides = [value(float(each.mean()), float(each.std(ddof=1) / 20), 400) for each in (a, b)]
    paired, apart = effect(*sides, rows=(a, b)), effect(*sides)
    assert paired.paired and paired.low > 0.9 and paired.high < 1.1
    assert not apart.paired and apart.low < 0.6


def test_images_that_came_back_unchanged_are_left_out():
    a, b = np.array([30.0, 32.0, np.inf, 31.0]), np.array([29.0, 30.0, 40.0, 30.0])
    found = effect(value(31.0, 0.5, 4), value(32.25, 2.0, 4), rows=(a, b))
    assert (found.estimate, found.n, found.paired) == (pytest.approx(4 / 3), 3, True)


def test_groups_that_both_sides_share_cancel_in_a_ratio():
    noise = np.random.default_rng(1).normal(0, 0.01, 64)
    a, b = (value(s, 0.5, 640, leave_group_out=list(s * np.exp(noise))) for s in (6.0, 3.0))
    found = effect(a, b, "ratio", same_images=True)
    assert (found.low, found.estimate, found.high) == pytest.approx((2.0, 2.0, 2.0))
    assert effect(a, b, "ratio").high > 2.3  # of other images


@pytest.mark.parametrize("sides", [(value(1.0, None), value(2.0)), (value(math.inf, None), value(2.0))])
def test_without_an_error_there_is_no_effect(sides):
    assert effect(*sides) is None


def test_counts_are_exact():
    found = effect(value(256, None, 1), value(1024, None, 1), "ratio", exact=True)
    assert (found.low, found.estimate, found.high) == (0.25, 0.25, 0.25)


def test_a_mean_over_seeds_has_the_errors_of_images_and_of_seeds():
    sizes = [20.0, 21.0, 23.5]
    mean = mean_over_seeds([value(size, 0.3) for size in sizes])
    assert mean.value == fmean(sizes)
    assert mean.standard_error == pytest.approx(math.hypot(0.3, math.sqrt(variance(sizes) / 3)))
    assert (mean.seeds, mean.error_of_images, mean.n) == (sizes, 0.3, 100)
    assert mean_over_seeds([value(1.0)]) == value(1.0)


def test_the_error_over_images_of_a_mean_is_that_of_each_image_s_mean():
    draw = np.random.default_rng(2)
    rows = draw.normal(20, 4, (3, 100)).mean(axis=0)
    mean = mean_over_seeds([value(20.0, 0.4)] * 3, rows)
    assert mean.error_of_images == pytest.approx(rows.std(ddof=1) / 10)
    groups = [list(draw.normal(5, 0.02, 50)) for _ in range(3)]
    mean = mean_over_seeds([value(5.0, 0.4, leave_group_out=each) for each in groups])
    assert mean.leave_group_out == pytest.approx(np.mean(groups, axis=0))


def test_the_interval_over_seeds_covers_the_truth_as_often_as_it_says():
    """Two recipes that are equal but for their seeds; with intervals over images alone most pairs would differ."""
    draw = np.random.default_rng(3)
    misses = {"seeds": 0, "images": 0}
    for _ in range(1000):
        images = draw.normal(0, 1, 50)
        rows = [[images + draw.normal(0, 0.5) + draw.normal(0, 0.2, 50) for _ in range(3)] for _ in range(2)]
        sides = [mean_over_seeds([value(float(r.mean()), 0.1, 50) for r in of], np.mean(of, axis=0)) for of in rows]
        found = effect(*sides, rows=tuple(np.mean(of, axis=0) for of in rows))
        assert found.covers_seeds
        misses["seeds"] += not found.low <= 0 <= found.high
        one = effect(*(value(float(of[0].mean()), 0.1, 50) for of in rows), rows=(rows[0][0], rows[1][0]))
        misses["images"] += not one.low <= 0 <= one.high
    assert misses["seeds"] < 70
    assert misses["images"] > 700
