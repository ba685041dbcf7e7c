# SPDX-License-Identifier: Apache-2.0
"""Repeats in processes of their own: medians and errors by hand, and processes that are others."""

import statistics

import pytest

from dcae.benchmark import Value
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.repeats import combine, profile_in_processes
from tests.evaluation.efficiency.tiny import PROTOCOL, shape


def measured(speed: float, **fields) -> Profile:
    values = {
        "latency_ms": Value(value=speed, n=40, standard_error=0.01, unit="ms", repeats=[speed]),
        "parameters": Value(value=7, n=1),
        "inference_utilisation": Value(value=speed / 100, n=1),
    }
    return Profile(values, conditions={"latency_batch_size": 2}, **fields)


def test_the_error_is_between_processes_not_within_one():
    """Two runs of one network gave 2.01 ± 0.05 and 3.41 ± 0.04 ms."""
    found = combine([measured(2.01), measured(3.41), measured(2.2)])
    latency = found.values["latency_ms"]
    assert (latency.value, latency.n, latency.repeats) == (2.2, 120, [2.01, 3.41, 2.2])
    assert latency.standard_error == pytest.approx(statistics.stdev([2.01, 3.41, 2.2]) / 3**0.5)
    assert latency.is_unsteady
    assert [remark.split(",")[0] for remark in found.remarks] == ["latency_ms: repeats differ by 63.6%"]
    assert found.values["parameters"] == Value(value=7, n=1)
    assert found.values["inference_utilisation"].value == pytest.approx(0.022)
    assert found.conditions == {"latency_batch_size": 2, "processes": 3}


def test_a_value_that_one_process_lacks_is_missing_with_its_reason():
    lacking = measured(2.0, excluded={"latency_ms": "needs more than 1 GiB"})
    del lacking.values["latency_ms"]
    found = combine([measured(2.0), lacking])
    assert "latency_ms" not in found.values
    assert found.excluded == {"latency_ms": "needs more than 1 GiB"}


def test_a_model_is_measured_in_as_many_processes_as_there_are_repeats():
    found = profile_in_processes(shape("dit"), PROTOCOL.model_copy(update={"repeats": 2}), "cpu")
    for name in ("training_images_per_second", "inference_images_per_second", "latency_ms"):
        value = found.values[name]
        assert len(value.repeats) == 2 and value.value == pytest.approx(statistics.median(value.repeats))
    assert found.conditions["processes"] == 2
    assert found.values["peak_memory_gib"].value > 0  # measured once
    assert found.failed == {}
