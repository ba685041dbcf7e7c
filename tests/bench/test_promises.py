# SPDX-License-Identifier: Apache-2.0
"""Verdicts on measured speeds."""

import argparse

import pytest

from bench.promises import Verdict, add_tolerance, judge


@pytest.mark.parametrize(
    ("times_promised", "tolerance", "verdict"),
    [
        (1.0, 0.0, Verdict.KEPT),
        (0.999, 0.0, Verdict.BROKEN),
        (0.95, 0.1, Verdict.MISSED),
        (0.89, 0.1, Verdict.BROKEN),
        (1.2, 0.1, Verdict.KEPT),
    ],
)
def test_a_speed_below_its_promise_is_broken_beyond_the_tolerance(times_promised, tolerance, verdict):
    assert judge(times_promised, tolerance) is verdict


def test_a_line_says_what_was_missed():
    assert [f"1.1 times{verdict}" for verdict in Verdict] == [
        "1.1 times",
        "1.1 times   missed, within the tolerance",
        "1.1 times   BROKEN",
    ]


@pytest.mark.parametrize("text", ["1", "-0.1", "10%"])
def test_a_tolerance_that_is_no_share_is_refused(text, capsys):
    parser = argparse.ArgumentParser()
    add_tolerance(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--tolerance={text}"])
    assert "--tolerance" in capsys.readouterr().err
    assert parser.parse_args([]).tolerance == 0
