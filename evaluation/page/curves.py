# SPDX-License-Identifier: Apache-2.0
"""Training logs as curves of the loss."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

POINTS = 120
WIDTH, HEIGHT = 300, 90
NO_LOSSES = ("step", "loss", "learning_rate", "images_per_second")


@dataclass(frozen=True)
class Curve:
    """The loss of a training as an SVG path in a box of ``WIDTH`` x ``HEIGHT``.

    Attributes:
        name: of the training.
        path: for the attribute ``d``; each point is the mean over some steps.
        steps: of the training.
        low, high: bounds of the box.
        first, last: mean loss at the beginning and at the end.
        rest: last value of each further term of the log, of training and of validation.
    """

    name: str
    path: str
    steps: int
    low: float
    high: float
    first: float
    last: float
    rest: dict[str, float]


def read_curves(logs: Mapping[str, Path], problems: list[str]) -> list[Curve]:
    """Return the curve of each log that is there.

    Args:
        logs: name of a training to its ``training_log.jsonl``.
        problems: receives a line for each log that cannot be read.
    """
    curves = []
    for name, path in logs.items():
        if path.is_file():
            try:
                lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
                curves += [_curve(name, lines)] if lines else []
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"{path} is no training log ({error!r}); remove its folder and run again")
    return curves


def _curve(name: str, lines: list[dict[str, float]]) -> Curve:
    of_training = [line for line in lines if "loss" in line]  # validations have lines of their own
    size = math.ceil(len(of_training) / POINTS)
    groups = [of_training[start : start + size] for start in range(0, len(of_training), size)]
    steps = [group[-1]["step"] for group in groups]
    losses = [fmean(line["loss"] for line in group) for group in groups]
    low, high = min(losses), max(losses)
    x_scale, y_scale = WIDTH / max(steps[-1], 1), HEIGHT / (high - low or 1)
    places = [f"{step * x_scale:.1f},{(high - loss) * y_scale:.1f}" for step, loss in zip(steps, losses, strict=True)]
    ends = {key: value for line in lines for key, value in line.items()}
    rest = {key: value for key, value in ends.items() if key not in NO_LOSSES and isinstance(value, float)}
    return Curve(name, "M" + "L".join(places), steps[-1], low, high, losses[0], losses[-1], rest)
