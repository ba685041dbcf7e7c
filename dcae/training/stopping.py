# SPDX-License-Identifier: Apache-2.0
"""Why a training ends before its last step: signals, time limits, and the errors that say so."""

from __future__ import annotations

import signal
import time

EXIT_UNFINISHED = 75
"""Exit status of a training that saved its state and waits to be started again (``EX_TEMPFAIL`` of sysexits.h).

That of its processes: torchrun, where it started them, ends with 1.
"""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LARGEST_MARGIN = 300.0  # seconds


class Unfinished(Exception):
    """The training stopped on request and saved its state; the same command goes on with it."""


class TrainingDiverged(RuntimeError):
    """A loss or a weight is no longer a finite number."""


class NoProgress(RuntimeError):
    """Earlier attempts failed without getting any further, so another one would too."""


class StopRequest:
    """Whether a training has to stop: after SIGTERM or SIGINT, or shortly before its time limit.

    Used as a context: within it, the two signals set a flag instead of ending the process.
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
        """True once no more than a margin is left: time to save twice, or 5 % of the limit (at most five minutes)."""
        if self.limit is None:
            return False
        margin = max(2 * seconds_to_save, min(0.05 * self.limit, LARGEST_MARGIN))
        return time.monotonic() - self.started > self.limit - margin
