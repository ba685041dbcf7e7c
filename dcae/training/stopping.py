# SPDX-License-Identifier: Apache-2.0
"""Reasons to stop a training before its last step: signals, time limits and errors."""

from __future__ import annotations

import signal
import time

EXIT_UNFINISHED = 75
"""Exit status of a process whose training saved its state and can continue (``EX_TEMPFAIL`` of sysexits.h).

torchrun itself exits with 1.
"""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LARGEST_MARGIN = 300.0  # seconds


class Unfinished(Exception):
    """The training stopped on request and saved its state; the same command continues it."""


class TrainingDiverged(RuntimeError):
    """A loss or a weight is not finite."""


class NoProgress(RuntimeError):
    """Earlier attempts failed at the same step, so another one would too."""


class StopRequest:
    """Detects that a training must stop: after SIGTERM or SIGINT, or shortly before its time limit.

    Within this context the two signals set a flag instead of ending the process.
    """

    def __init__(self, time_limit_minutes: float | None):
        self.limit = None if time_limit_minutes is None else 60 * time_limit_minutes
        self.started = time.monotonic()
        self.signal: str | None = None

    def __enter__(self) -> StopRequest:
        self._previous = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame) -> None:
        self.signal = signal.Signals(number).name

    def out_of_time(self, seconds_to_save: float) -> bool:
        """Return whether only a margin is left: time to save twice, or 5 % of the limit (at most five minutes)."""
        if self.limit is None:
            return False
        margin = max(2 * seconds_to_save, min(0.05 * self.limit, LARGEST_MARGIN))
        return time.monotonic() - self.started > self.limit - margin
