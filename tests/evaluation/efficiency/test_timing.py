# SPDX-License-Identifier: Apache-2.0
"""Warm-up, medians, spread over repeats; on a clock that the test moves."""

import math
import statistics

import pytest
import torch

from dcae.benchmark import Value
from evaluation.efficiency import timing
from evaluation.efficiency.timing import disagreements, matrix_product_rate, milliseconds, summary, throughput, time_of
from tests.evaluation.efficiency.tiny import CPU, changed


@pytest.fixture
def clock(monkeypatch):
    """Steps of given durations in seconds, of which the last one lasts."""

    def steps(*durations: float):
        now, left = 0.0, list(durations)

        def step() -> None:
            nonlocal now
            now += left.pop(0) if len(left) > 1 else left[0]

        monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
        return step

    return steps


def test_time_is_a_median_after_warm_up(clock):
    step = clock(300.0, 5.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 2.0, 0.1, 0.2, 0.1)
    duration = time_of(step, CPU, changed(warmup_steps=4, warmup_seconds=60, seconds=6, repeats=3))
    # Compiling does not count; slow, then two and two alike; after these, three times the two steps that two seconds
    # have room for.
    assert duration.n == 6
    assert duration.value == pytest.approx(0.1)
    assert duration.repeats == pytest.approx([0.1, 1.05, 0.15])
    assert duration.standard_error == pytest.approx(statistics.stdev(duration.repeats) / 3**0.5)


def test_the_error_is_that_of_a_median_where_repeats_agree_by_chance():
    steps = [0.1, 0.2, 0.3, 0.4]
    quartiles = torch.tensor(steps * 2).quantile(torch.tensor([0.25, 0.75]))
    spread = float(quartiles[1] - quartiles[0]) / 1.349
    assert summary([steps, steps]).standard_error == pytest.approx((math.pi / 2 / 8) ** 0.5 * spread, rel=1e-5)


def test_warm_up_goes_on_until_a_step_is_as_fast_as_before_but_not_for_ever(clock):
    falling = [60.0, *(2.0**-n for n in range(1, 10))]
    assert timing.warm_up(clock(*falling, 0.001), CPU, changed(warmup_steps=2, warmup_seconds=60)) == pytest.approx(
        0.001
    )
    assert timing.warm_up(clock(*falling), CPU, changed(warmup_steps=2, warmup_seconds=0.7)) == pytest.approx(0.25)
    assert timing.warm_up(clock(9.0, 8.0, 7.0), CPU, changed(warmup_steps=20, warmup_seconds=1)) == 8


def test_a_slow_step_is_timed_once_for_each_repeat(clock):
    assert time_of(clock(3.0), CPU, changed(seconds=0.1, repeats=3)).n == 3


def test_throughput_and_milliseconds_keep_repeats_and_relative_error():
    duration = summary([[0.2, 0.2], [0.2, 0.25]])
    rate, latency = throughput(duration, 8), milliseconds(duration)
    assert (rate.value, latency.value) == pytest.approx((40, 200))
    assert rate.repeats == pytest.approx([40, 8 / 0.225])
    assert latency.repeats == pytest.approx([200, 225])
    assert rate.standard_error / rate.value == pytest.approx(latency.standard_error / latency.value)


def test_repeats_that_disagree_by_more_than_5_percent_are_told():
    values = {
        "quiet": Value(value=100, n=3, unit="images/s", repeats=[98, 100, 102]),
        "busy": Value(value=100, n=3, unit="images/s", repeats=[97, 100, 103]),
        "counted": Value(value=7, n=1),
    }
    [remark] = disagreements(values)
    assert remark == "busy: repeats differ by 6.0%, more than 5%: 97, 100, 103 images/s"


def test_a_matrix_product_has_a_rate():
    assert 1e6 < matrix_product_rate(CPU, "fp32", seconds=0.01, side=64) < 1e15
