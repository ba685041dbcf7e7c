# SPDX-License-Identifier: Apache-2.0
"""Logging of a training: screen, ``log.jsonl``, curves (TensorBoard or Weights & Biases) and sample images as PNG.

Only ``log.jsonl`` is read by other code.
"""

from __future__ import annotations

import contextlib
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from dcae.benchmark.entries import digest
from dcae.files import replacing

LogWith = Literal["tensorboard", "wandb", "none"]
PROJECT = "dcae"  # at Weights & Biases
SAMPLES = "samples"
VALIDATION = "validation_"
SECONDS_BETWEEN_LINES = 2.0
LOG_LINES = 200  # per training, at regular steps


def report(text: str) -> None:
    """Print at once, and ignore a closed pipe: the training continues without its reader."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


class TrackerMissing(RuntimeError):
    """The package chosen for curves is not installed."""


def check_installed(log_with: LogWith) -> None:
    """Raise ``TrackerMissing`` if the package is not installed."""
    if log_with != "none" and find_spec(log_with) is None:
        raise TrackerMissing(
            f"curves were asked for with {log_with} (--log-with or DCAE_LOG_WITH), but the package {log_with} is not "
            f"installed: pip install {log_with}, or choose tensorboard or none"
        )


class Curves:
    """Curves and sample images of one attempt at a training.

    TensorBoard's events are in the state folder itself, so that ``tensorboard --logdir results/demo`` names a run after
    the training's folder. It hides points after ``step`` of an earlier attempt, which this attempt writes again;
    Weights & Biases continues the same run and keeps the first of two equal points.

    Args:
        log_with: ``none`` leaves only the PNG files.
        folder: the training's own state folder.
        title: name of the training.
        step: number of steps done when this attempt starts.
        config: shown with the curves by Weights & Biases.
    """

    def __init__(self, log_with: LogWith, folder: Path, title: str, step: int, config: dict[str, str]):
        self.folder = Path(folder)
        self.tracker: GeneralTracker | None = None
        self._image_options: dict[str, str] = {}
        if log_with == "tensorboard":
            self.tracker = TensorBoardTracker(self.folder.name, self.folder.parent, purge_step=step + 1)
            self._image_options = {"dataformats": "NHWC"}
        elif log_with == "wandb":
            run = digest(str(self.folder.resolve()))
            options = {"id": run, "name": title, "resume": "allow", "dir": str(self.folder), "config": config}
            self.tracker = WandBTracker(PROJECT, **options)
        if self.tracker:
            self.tracker.start()

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Add a point to each curve; ``step`` counts from 1."""
        if self.tracker:
            self.tracker.log({_curve_name(name): value for name, value in numbers.items()}, step=step)

    def show(self, step: int, name: str, picture: np.ndarray) -> None:
        """Save a picture, uint8 [H, W, 3], as ``samples/<name>-<step>.png`` and to the tracker."""
        path = self.folder / SAMPLES / f"{name}-{step:08d}.png"
        with replacing(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        if self.tracker:
            self.tracker.log_images({f"validation/{name}": picture[None]}, step=step, **self._image_options)

    def finish(self) -> None:
        """Flush and close the tracker."""
        if self.tracker:
            self.tracker.finish()


def _curve_name(name: str) -> str:
    """Group curves as ``validation/…`` and ``training/…``."""
    if name.startswith(VALIDATION):
        return f"validation/{name.removeprefix(VALIDATION)}"
    return f"training/{name}"


class Progress:
    """Collects the losses of the steps, prints and logs them.

    A log line holds means over the steps since the previous line: ``{"step": 40, "loss": 0.0421, "l1": …,
    "learning_rate": 0.001, "images_per_second": 312.0}``; the learning rate is that of the last step. Validation
    lines have other keys besides ``step``.
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
        """Add the losses of one step; ``step`` counts from 1."""
        self._to_log.append(losses)
        self._to_print.append(losses["loss"])
        if step % self.log_every == 0 or step == self.steps:
            speed, self._log_time = self._images_per_second(len(self._to_log), self._log_time)
            numbers = {"learning_rate": learning_rate, "images_per_second": round(speed, 1)}
            self.write(step, {**_means(self._to_log), **numbers})
            self._to_log = []

    def show(self, step: int) -> None:
        """Print the progress line if it is due."""
        now = time.monotonic()
        if self._printed_any and step < self.steps and now - self._print_time < SECONDS_BETWEEN_LINES:
            return
        loss = sum(self._to_print) / len(self._to_print)
        speed, self._print_time = self._images_per_second(len(self._to_print), self._print_time)
        report(f"{self.title}  step {step}/{self.steps}  loss {loss:.4f}  {speed:.0f} images/s")
        self._to_print, self._printed_any = [], True

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Append a line to the log, and a point to each curve."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        self.curves.log(step, numbers)

    def _images_per_second(self, steps: int, since: float) -> tuple[float, float]:
        now = time.monotonic()
        return steps * self.images_per_step / max(now - since, 1e-9), now


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}
