# SPDX-License-Identifier: Apache-2.0
"""A training of a network of a few weights, with everything that has a state: BatchNorm, dropout, AdamW, an average.

As a program (``python toy.py FOLDER SECONDS_PER_STEP``) it is what tests send signals to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcae.benchmark.entries import EMA, AdamW, TrainingFields
from dcae.randomness import per_sample, seeded
from dcae.training import engine
from dcae.training.batches import Batch, batches, split
from dcae.training.optimisers import MovingAverage, Updater

SETTINGS = TrainingFields(
    steps=12,
    batch_size=4,
    optimiser=AdamW(learning_rate=0.05, weight_decay=0.1, warmup_steps=5),
    gradient_clip=1.0,
    ema=EMA(decay=0.9, ramp_steps=3),
    checkpoint_every=4,
    gradient_accumulation=2,
)
IDENTITY = {"configuration": "a", "code": "b", "data": "c", "seed": "0"}
Disturbance = Callable[[int, nn.Module], None]


class Toy:
    def __init__(self, settings: TrainingFields, disturb: Disturbance, accelerator: Accelerator):
        self.settings, self.disturb, self.accelerator = settings, disturb, accelerator
        with seeded(0, "toy"):
            self.network = nn.Sequential(
                nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
            )
        self.average = MovingAverage(self.network, settings.ema)
        self.call = engine.prepare(self.network, accelerator)
        self.updater = Updater(self.call, settings.optimiser, settings.gradient_clip, accelerator)

    def task(self) -> engine.Task:
        stateful = {"network": self.network, "average": self.average, "optimiser": self.updater}
        return engine.Task(
            stateful, self.batches, self.step, self.updater.learning_rate, self.save,
            lambda: engine.Validation({"validation_toy": 1.0}),
        )  # fmt: skip

    def batches(self, first_step: int):
        return batches(self.read, first_step, self.settings.steps, self.settings.batch_size, self.accelerator)

    def read(self, numbers: range) -> Tensor:
        return per_sample(lambda random: torch.randn(3, generator=random), numbers, "data")

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        self.disturb(step, self.network)
        losses = []

        def loss_of(part: Batch) -> Tensor:
            losses.append((self.call(part.content) - part.content.sum(1, keepdim=True)).square().mean())
            return losses[-1]

        self.updater.update(step, split(batch, self.settings.gradient_accumulation), loss_of)
        self.average.update(self.network, step)
        return {"loss": torch.stack(losses).mean()}

    def save(self, folder: Path) -> None:
        averaged = {f"average.{name}": value for name, value in self.average.module.state_dict().items()}
        save_file({**self.network.state_dict(), **averaged}, folder / "weights.safetensors")


def undisturbed(_step: int, _network: nn.Module) -> None:
    """Let every step run."""


def train(
    folder: Path, disturb: Disturbance = undisturbed, settings: TrainingFields = SETTINGS,
    identity: dict[str, str] = IDENTITY, time_limit_minutes: float | None = None, log_with: str = "tensorboard",
    elsewhere: Sequence[Path] = (),
) -> dict[str, Tensor]:  # fmt: skip
    """Train in ``folder``/state and return the weights in ``folder``/output."""
    engine.run(
        lambda accelerator: Toy(settings, disturb, accelerator).task(), "toy", settings, identity=identity, seed=0,
        output=folder / "output", state=folder / "state", time_limit_minutes=time_limit_minutes,
        log_with=log_with, elsewhere=elsewhere,
    )  # fmt: skip
    return load_file(folder / "output" / "weights.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), disturb=lambda _step, _network: time.sleep(float(sys.argv[2])))
