# SPDX-License-Identifier: Apache-2.0
"""Curves and sample images of a training for those who watch it: TensorBoard, Weights & Biases, PNG files.

Nothing reads them again; what a training says about itself for others to use is ``log.jsonl`` (module ``progress``).
"""

from __future__ import annotations

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


class TrackerMissing(RuntimeError):
    """The package that curves were asked for with is not installed."""


def check_installed(log_with: LogWith) -> None:
    """Raise ``TrackerMissing`` if a training could not be logged in this way."""
    if log_with != "none" and find_spec(log_with) is None:
        raise TrackerMissing(
            f"curves were asked for with {log_with} (--log-with or DCAE_LOG_WITH), but the package {log_with} is not "
            f"installed: pip install {log_with}, or choose tensorboard or none"
        )


class Curves:
    """What a training shows of itself from one attempt on.

    TensorBoard's events lie in the state folder itself, so that ``tensorboard --logdir results/demo`` names a run after
    the training's folder. Points after ``step`` that an earlier attempt wrote are hidden there, since this attempt
    writes them again; Weights & Biases goes on with the same run and keeps the first of two equal points.

    Args:
        log_with: ``none`` leaves only the PNG files.
        folder: the training's own state folder.
        title: what is trained.
        step: number of steps done when this attempt starts.
        config: shown beside the curves, where there is a place for it.
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
        """One point of each curve; ``step`` counts from 1."""
        if self.tracker:
            self.tracker.log({_curve(name): value for name, value in numbers.items()}, step=step)

    def show(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture, uint8 [H, W, 3], as ``samples/<name>-<step>.png`` and beside the curves."""
        path = self.folder / SAMPLES / f"{name}-{step:08d}.png"
        with replacing(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        if self.tracker:
            self.tracker.log_images({f"validation/{name}": picture[None]}, step=step, **self._image_options)

    def finish(self) -> None:
        """Write what is left to write."""
        if self.tracker:
            self.tracker.finish()


def _curve(name: str) -> str:
    """Curves are grouped by what stands before the slash."""
    if name.startswith(VALIDATION):
        return f"validation/{name.removeprefix(VALIDATION)}"
    return f"training/{name}"
