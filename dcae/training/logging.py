# SPDX-License-Identifier: Apache-2.0
"""What a training tells about itself: a line on the screen every two seconds, ``log.jsonl``, and curves of it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from dcae.training.trackers import Curves

SECONDS_BETWEEN_LINES = 2.0
LOG_LINES = 200  # in the log of one training, at regular steps


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}


def report(text: str) -> None:
    """Print at once. A closed pipe ends no training: its reader was killed, but the result is still wanted."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


class Progress:
    """Collects the losses of the steps, prints them and logs them.

    A log line holds the means over the steps since the line before: ``{"step": 40, "loss": 0.0421, "l1": …,
    "learning_rate": 0.001, "images_per_second": 312.0}``; the learning rate is that of the last of them. Lines of other
    kinds (validation) have other keys beside ``step``.
    """

    def __init__(self, log: Path, curves: Curves, title: str, steps: int, images_per_step: int):
        self.log, self.curves, self.title = log, curves, title
        self.steps, self.images_per_step = steps, images_per_step
        self.log_every = max(1, steps // LOG_LINES)
        self._to_log: list[dict[str, float]] = []
        self._to_print: list[float] = []
        self._log_time = self._print_time = time.monotonic()
        self._printed_any = False

    def add(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Take in the losses of one step; ``step`` counts from 1."""
        self._to_log.append(losses)
        self._to_print.append(losses["loss"])
        if step % self.log_every == 0 or step == self.steps:
            speed, self._log_time = self._images_per_second(len(self._to_log), self._log_time)
            numbers = {"learning_rate": learning_rate, "images_per_second": round(speed, 1)}
            self.write(step, {**_means(self._to_log), **numbers})
            self._to_log = []

    def show(self, step: int) -> None:
        """Print the progress line if it is time for one."""
        now = time.monotonic()
        if self._printed_any and step < self.steps and now - self._print_time < SECONDS_BETWEEN_LINES:
            return
        loss = sum(self._to_print) / len(self._to_print)
        speed, self._print_time = self._images_per_second(len(self._to_print), self._print_time)
        report(f"{self.title}  step {step}/{self.steps}  loss {loss:.4f}  {speed:.0f} images/s")
        self._to_print, self._printed_any = [], True

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Append one line to the log, and a point to each curve."""
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        self.curves.log(step, numbers)

    def _images_per_second(self, steps: int, since: float) -> tuple[float, float]:
        now = time.monotonic()
        return steps * self.images_per_step / max(now - since, 1e-9), now
