# SPDX-License-Identifier: Apache-2.0
"""Paired comparisons against scipy, bootstrap and simulation."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.benchmark.record import Value
from evaluation.metrics.jackknife import jackknife_frechet
from evaluation.metrics.paired import PairingError, compare, compare_distances, compare_images, read_rows
from evaluation.quality.reconstruction import Reconstruction, write_rows
from tests.evaluation.metrics.test_frechet import features


def psnr_of_two(seed: int = 0, gap: float = 0.1, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Values that differ much between images (4 dB) and little between autoencoders."""
    generator = np.random.default_rng(seed)
    images = generator.normal(26, 4, n)
    return images + gap + generator.normal(0, 0.2, n), images + generator.normal(0, 0.2, n)


def test_the_interval_is_that_of_scipys_paired_t_test():
    a, b = psnr_of_two()
    found = compare_images(a, b, "higher")
    test = scipy.stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference / found.standard_error == pytest.approx(test.statistic)
    assert found.n == 200


def test_the_interval_is_near_that_of_the_bootstrap_over_images():
    a, b = psnr_of_two()
    found = compare_images(a, b, "higher")
    bootstrap = scipy.stats.bootstrap((a - b,), np.mean, n_resamples=2000, rng=np.random.default_rng(0), method="basic")
    low, high = bootstrap.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (found.high - found.low))


def test_what_independent_errors_cannot_tell_apart_pairs_can():
    a, b = psnr_of_two(gap=0.1)
    independent = math.hypot(a.std(ddof=1), b.std(ddof=1)) / math.sqrt(len(a))
    assert abs(a.mean() - b.mean()) < independent
    assert compare_images(a, b, "higher").verdict == "better"
    assert compare_images(b, a, "higher").verdict == "worse"
    assert compare_images(a, b, "lower").verdict == "worse"


def test_of_equals_one_in_twenty_is_told_apart():
    verdicts = [compare_images(*psnr_of_two(seed, gap=0.0), "higher").verdict for seed in range(400)]
    wrong = sum(verdict != "not distinguishable" for verdict in verdicts)
    assert 8 <= wrong <= 34  # 20 expected, within three standard deviations


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=30))
def test_swapping_the_two_swaps_sign_and_verdict(pairs):
    a, b = np.array(pairs).T
    one, other = compare_images(a, b, "higher"), compare_images(b, a, "higher")
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    swapped = {"better": "worse", "worse": "better", "not distinguishable": "not distinguishable"}
    assert other.verdict == swapped[one.verdict]


def test_infinite_values_and_single_images_are_not_compared():
    found = compare_images(np.array([1.0, math.inf, 3.0, 5.0]), np.array([1.0, math.inf, 2.0, 3.0]), "higher")
    assert (found.n, found.difference) == (3, 1.0)
    assert compare_images(np.array([1.0, math.inf]), np.array([1.0, 2.0]), "higher") is None
    assert compare_images(np.array([1.0]), np.array([2.0]), "higher") is None
    with pytest.raises(PairingError, match="2 and of 3 images"):
        compare_images(np.ones(2), np.ones(3), "higher")


# --- rFID -----------------------------------------------------------------------------------------------------------


def rfid(made: torch.Tensor, images: torch.Tensor) -> Value:
    found = jackknife_frechet(made, images, paired=True)
    return Value(value=found.estimate, n=len(made), standard_error=found.standard_error, leave_group_out=found.left_out)


def test_rfids_over_the_same_images_are_told_apart_by_their_groups():
    images = features(400, 16, 0)
    shared = 0.4 * features(400, 16, 1)
    good, bad = rfid(images + shared, images), rfid(images + 1.03 * shared, images)
    assert bad.value - good.value < good.standard_error  # independent errors would see nothing
    found = compare_distances(good, bad)
    assert found.verdict == "better"
    assert found.low < good.value - bad.value < found.high < 0
    assert compare_distances(good, good).verdict == "not distinguishable"


def test_the_paired_error_of_rfid_is_the_spread_over_fresh_images():
    def pair(seed: int) -> tuple[Value, Value]:
        images = features(128, 4, seed)
        shared = 0.4 * features(128, 4, 1000 + seed)
        return rfid(images + shared, images), rfid(images + 1.2 * shared + 0.1 * features(128, 4, 2000 + seed), images)

    pairs = [pair(seed) for seed in range(40)]
    spread = np.std([a.value - b.value for a, b in pairs], ddof=1)
    errors = [compare_distances(a, b).standard_error for a, b in pairs]
    assert np.mean(errors) == pytest.approx(spread, rel=0.35)  # the spread of 40 is known to 11 %


def test_values_without_groups_or_of_other_images_are_not_paired():
    plain = Value(value=1.0, n=5, standard_error=0.1)
    assert compare_distances(plain, plain) is None
    with pytest.raises(PairingError, match="5 and of 6 images"):
        compare_distances(plain, plain.model_copy(update={"n": 6}))


# --- rows -----------------------------------------------------------------------------------------------------------


def rows_in(tmp_path, name: str, psnr: np.ndarray):
    columns = {metric: torch.from_numpy(psnr) for metric in ("psnr", "ssim", "lpips")}
    path = tmp_path / f"{name}.parquet"
    write_rows(Reconstruction({}, columns, torch.zeros(0)), path)
    return read_rows(path)


def test_rows_are_compared_as_they_were_written(tmp_path):
    a, b = psnr_of_two()
    value = Value(value=26.0, n=200)
    found = compare("psnr", value, value, rows_in(tmp_path, "a", a), rows_in(tmp_path, "b", b), "higher")
    assert found == compare_images(a, b, "higher")
    assert compare("psnr", value, value, None, rows_in(tmp_path, "b", b), "higher") is None


def test_rows_of_other_images_are_refused(tmp_path):
    a, b = psnr_of_two()
    one, other = rows_in(tmp_path, "a", a), rows_in(tmp_path, "b", b)
    other = {**other, "image": other["image"] + 1}
    value = Value(value=26.0, n=200)
    with pytest.raises(PairingError, match="different images"):
        compare("psnr", value, value, one, other, "higher")


def test_a_cut_file_is_named_and_set_aside(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(
        PairingError, match=rf"{path} is damaged .*; kept as rows.parquet.damaged; run the same command"
    ):
        read_rows(path)
    assert not path.exists(), "a missing output is made again"
