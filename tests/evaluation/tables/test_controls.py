# SPDX-License-Identifier: Apache-2.0
"""Controls that land where they belong, and every way in which they may not."""

from __future__ import annotations

import math

import pytest

from evaluation.tables.controls import CHECKED, check_controls, verdict
from tests.evaluation import synthetic


@pytest.fixture
def records():
    demo = (result.record for result in synthetic.demo_records())
    return [r for r in demo if r.kind == "reconstruction" and r.cell["dataset"] == "photographs"]


def with_value(records, control: str, metric: str, value: float):
    """The same records, one value of one control changed."""
    changed = []
    for record in records:
        if record.cell["autoencoder"] == control:
            values = {**record.values, metric: record.values[metric].model_copy(update={"value": value})}
            record = record.model_copy(update={"values": values})
        changed.append(record)
    return changed


def broken(records) -> list[tuple[str, str]]:
    return [(check.control, check.metric) for check in check_controls(records) if not check.holds]


def test_all_hold_on_sound_metrics(records):
    checks = check_controls(records)
    assert len(checks) == 3 * len(CHECKED)
    assert broken(records) == []
    assert verdict(checks).startswith("Controls land where they belong")


@pytest.mark.parametrize(("metric", "value"), [("psnr", 60.0), ("ssim", 0.99), ("lpips", 0.01), ("rfid", 0.5)])
def test_an_imperfect_identity_is_found(records, metric, value):
    assert ("identity", metric) in broken(with_value(records, "identity", metric, value))


@pytest.mark.parametrize("value", [0.0, 1e-6, -1e-6])
def test_rounding_of_the_frechet_distance_is_forgiven(records, value):
    assert broken(with_value(records, "identity", "rfid", value)) == []


def test_a_blur_better_than_the_identity_is_found(records):
    assert ("blur", "ssim") in broken(with_value(records, "blur", "ssim", 1.5))


def test_pictures_that_come_back_unchanged_break_nothing(records):
    """A blank page comes back unchanged from the blur, and from the mean colour."""
    blank = with_value(with_value(records, "blur", "psnr", math.inf), "mean-colour", "psnr", math.inf)
    assert broken(blank) == [], "every picture is blank"
    fewer = [
        record.model_copy(update={"values": {**record.values, "psnr": record.values["psnr"].model_copy(
            update={"unchanged": unchanged, "value": value})}})
        for record in records
        if record.number_class == "control"
        for unchanged, value in [{"identity": (9, math.inf), "blur": (2, 20.0), "mean-colour": (1, 20.5)}[
            record.cell["autoencoder"]]]
    ]  # fmt: skip
    assert broken(fewer) == [], "the means are over other pictures"


@pytest.mark.parametrize(("metric", "value"), [("psnr", 30.0), ("ssim", 0.9), ("lpips", 0.01), ("rfid", 0.01)])
def test_a_mean_colour_better_than_the_blur_is_found(records, metric, value):
    assert broken(with_value(records, "mean-colour", metric, value)) == [("mean-colour", metric)]


def test_equal_scores_are_no_order(records):
    blur = next(record for record in records if record.cell["autoencoder"] == "blur").values["ssim"].value
    assert broken(with_value(records, "mean-colour", "ssim", blur)) == [("mean-colour", "ssim")]


def test_nan_is_broken(records):
    assert ("identity", "lpips") in broken(with_value(records, "identity", "lpips", math.nan))


def test_a_missing_control_counts_as_broken(records):
    left = [record for record in records if record.cell["autoencoder"] != "blur"]
    assert ("blur", "values") in broken(left)
    assert "CONTROLS BROKEN" in verdict(check_controls(left))


def test_no_controls_give_no_checks_but_a_loud_verdict(records):
    without = [record for record in records if record.number_class != "control"]
    assert check_controls(without) == []
    assert verdict([]).startswith("NO CONTROLS")


def test_each_data_set_and_resolution_is_checked_by_itself():
    records = [result.record for result in synthetic.demo_records()]
    assert {(check.dataset, check.resolution) for check in check_controls(records)} == set(synthetic.PLACES)


def test_a_check_reads_as_a_sentence(records):
    check = next(c for c in check_controls(with_value(records, "identity", "ssim", 0.5)) if not c.holds)
    assert str(check) == "BROKEN: identity on photographs 128 px: expected ssim 1, found 0.5"
