# SPDX-License-Identifier: Apache-2.0
"""Targets of measured ratios."""

import pytest

from bench.timing import Target, best_of_turns, run_comparisons

AT_LEAST, AT_MOST = Target(2), Target(2, at_most=True)


@pytest.mark.parametrize(
    ("target", "ratio", "tolerance", "passes", "remark"),
    [
        (AT_LEAST, 2.0, 0.0, True, ""),
        (AT_LEAST, 1.99, 0.0, False, "   MISSED"),
        (AT_LEAST, 1.9, 0.1, True, "   missed, within the tolerance"),
        (AT_LEAST, 1.7, 0.1, False, "   MISSED"),
        (AT_LEAST, 2.4, 0.1, True, ""),
        (AT_MOST, 2.0, 0.0, True, ""),
        (AT_MOST, 2.1, 0.0, False, "   MISSED"),
        (AT_MOST, 2.1, 0.1, True, "   missed, within the tolerance"),
    ],
)
def test_a_ratio_beyond_the_tolerance_misses_its_target(target, ratio, tolerance, passes, remark, capsys):
    assert target.check("speed", ratio, tolerance) is passes
    bound = "most" if target.at_most else "least"
    assert capsys.readouterr().out == f"speed: {ratio:.2f} (at {bound} 2){remark}\n"


def test_turns_end_once_the_best_values_meet_the_target():
    turns = iter([{"own": 3.0, "other": 4.0}, {"own": 5.0, "other": 2.0}, {"own": 1.0, "other": 9.0}, {"own": 0.0}])
    best = best_of_turns(lambda: next(turns), lambda best: best["other"] >= 2 * best["own"], most=4)
    assert best == {"own": 1.0, "other": 2.0}
    assert best_of_turns(lambda: {"own": 1.0}, lambda best: False, most=2) == {"own": 1.0}


@pytest.mark.parametrize(("results", "status"), [([True, True], 0), ([False, True], 1)])
def test_every_comparison_runs_and_a_missed_target_decides_the_exit_status(results, status, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cpu", "--tolerance", "0.1"])
    ran = []

    def comparisons(device, tolerance):
        for result in results:
            ran.append((device, tolerance))
            yield result

    assert run_comparisons("Compare.", comparisons) == status
    assert ran == [("cpu", 0.1)] * 2


@pytest.mark.parametrize("text", ["1", "-0.1", "10%"])
def test_a_tolerance_that_is_no_share_is_refused(text, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", f"--tolerance={text}"])
    with pytest.raises(SystemExit):
        run_comparisons("Compare.", lambda *_: [])
    assert "--tolerance" in capsys.readouterr().err
