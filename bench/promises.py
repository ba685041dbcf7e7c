# SPDX-License-Identifier: Apache-2.0
"""Whether a measured speed keeps what is promised of it, with a tolerance for machines that are not quiet."""

from __future__ import annotations

import argparse
from enum import Enum


class Verdict(Enum):
    """On one promise; ``str`` gives what a line of results ends with."""

    KEPT = ""
    MISSED = "   missed, within the tolerance"
    BROKEN = "   BROKEN"

    def __str__(self) -> str:
        return self.value


def judge(times_promised: float, tolerance: float) -> Verdict:
    """The verdict on a speed that is so many times the promised one; ``tolerance`` is a share of the promise."""
    if times_promised >= 1:
        return Verdict.KEPT
    return Verdict.MISSED if times_promised >= 1 - tolerance else Verdict.BROKEN


def add_tolerance(parser: argparse.ArgumentParser) -> None:
    """The option ``--tolerance``: none, unless asked for."""
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="by which a speed may miss its promise without exit status 1, where the machine does other things (0)",
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of a promise: expected 0 or more, and less than 1")
    return value
