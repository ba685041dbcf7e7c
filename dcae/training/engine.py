# SPDX-License-Identifier: Apache-2.0
"""The training loop of autoencoders and diffusion models.

``run`` locks the state folder, returns at once if the training is complete, and otherwise continues from the last
checkpoint. A training stopped after any step and continued gives the same result as an undisturbed one (bit for bit on
one CPU): randomness depends on (seed, step) and (seed, sample number), learning rates and averages on the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DiffusionRecipe, TrainingFields
from dcae.files import DiskFull, is_disk_full
from dcae.randomness import derived_seed
from dcae.training.logging import Curves, LogWith, Progress, check_installed, report
from dcae.training.state import LOCK_WAIT_MINUTES, TrainingState, checkpoint_path, lock
from dcae.training.stopping import StopRequest, TrainingDiverged, Unfinished

VALIDATIONS = 5  # during a training, the last one at its end
SECONDS_BETWEEN_FLUSHES = 1.0


class Stateful(Protocol):
    """Has a state that a checkpoint holds."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> Any: ...


@dataclass(frozen=True)
class Validation:
    """Numbers by name (``validation_…``), and pictures by name, uint8 [H, W, 3]."""

    numbers: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A training, in the parts that the loop calls. Steps count from 0.

    Attributes:
        stateful: everything that changes over the steps, by name; saved in checkpoints.
        batches: returns this process's batches from a step on, one per step.
        step: updates the weights, given step and batch; returns losses as scalar tensors, ``loss`` among them, with the
            same names at every step.
        learning_rate: returns the learning rate of a step, for the log.
        save: writes the finished weights into a folder, on the main process.
        validate: returns numbers and pictures for the log, on the main process; must not affect the training.
        finish: called on every process after the last step, before ``save``.
    """

    stateful: dict[str, Stateful]
    batches: Callable[[int], Iterator[Any]]
    step: Callable[[int, Any], dict[str, Tensor]]
    learning_rate: Callable[[int], float]
    save: Callable[[Path], None]
    validate: Callable[[], Validation] = Validation
    finish: Callable[[], None] | None = None


def means(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average each scalar over the parts of a batch."""
    return {name: torch.stack([values[name] for values in parts]).mean() for name in parts[0]}


def all_finite(module: nn.Module) -> bool:
    """Return whether all of a module's weights are finite; waits for the device once."""
    return bool(torch.stack([value.isfinite().all() for value in module.parameters()]).all())


def check_batch_size(settings: TrainingFields, processes: int) -> None:
    """Raise ``ConfigError`` if the batch cannot be split evenly over the processes and their parts."""
    parts = settings.gradient_accumulation
    if settings.batch_size % (processes * parts):
        raise ConfigError(
            f"batch_size {settings.batch_size} cannot be split evenly over {processes} "
            f"process{'es' if processes > 1 else ''} with {parts} part{'s' if parts > 1 else ''} each "
            "(gradient_accumulation): choose a multiple of their product"
        )


def has_static_graph(settings: TrainingFields) -> bool:
    """Return whether every step of a training has the same graph: nothing is frozen, and batches come whole."""
    return isinstance(settings, DiffusionRecipe) and settings.gradient_accumulation == 1


def accelerator_for(settings: TrainingFields) -> Accelerator:
    """Return the accelerator of a training (device, processes, precision); fp16 gets a gradient scaler.

    Raises:
        ConfigError: precision or batch size does not fit the device or the number of processes.
    """
    # Accelerate connects several CPU processes only with cpu=True.
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and settings.precision == "fp16":  # Accelerate would silently compute in fp32
        raise ConfigError("precision is fp16 in the recipe, which needs a GPU, and there is none: choose bf16 or fp32")
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no" if settings.precision == "fp32" else settings.precision,
        kwargs_handlers=[
            # All processes wait while the first one waits for a lock.
            InitProcessGroupKwargs(timeout=timedelta(minutes=LOCK_WAIT_MINUTES + 10)),
            # Buffers are constants, or statistics that the processes share already.
            DistributedDataParallelKwargs(
                gradient_as_bucket_view=True, broadcast_buffers=False, static_graph=has_static_graph(settings)
            ),
        ],
    )
    check_batch_size(settings, accelerator.num_processes)
    return accelerator


def prepare(module: nn.Module, accelerator: Accelerator, compiled: bool = False) -> nn.Module:
    """Wrap a module for training steps; it shares the module's parameters.

    The wrapper runs in the training's precision, compiled on request; processes average its gradients and share the
    statistics of BatchNorm.

    Raises:
        ConfigError: BatchNorm in training mode on several CPU processes.
    """
    if accelerator.num_processes > 1:
        module = _synchronise_batch_norm(module, accelerator.device)
    if compiled:
        from torch._functorch import config as of_compiled_graphs

        of_compiled_graphs.donated_buffer = False  # the adaptive GAN weight backpropagates through a graph repeatedly
        module.compile()
    return accelerator.prepare_model(module)


def _synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every BatchNorm in training mode by torch's ``SyncBatchNorm``, which needs a GPU.

    In evaluation mode statistics are fixed, so the BatchNorm of a frozen autoencoder stays.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if not module.training:
            return module
        if device.type == "cpu":
            raise ConfigError(
                "several processes share the statistics of BatchNorm on GPUs only: train this autoencoder or "
                "discriminator in one process on a CPU"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        setattr(module, name, _synchronise_batch_norm(child, device))
    return module


class Loop:
    """One attempt at a training, from its last checkpoint to its last step or to a request to stop."""

    def __init__(
        self, task: Task, title: str, settings: TrainingFields, seed: int,
        state: TrainingState, stop: StopRequest, accelerator: Accelerator, log_with: LogWith,
    ):  # fmt: skip
        self.task, self.title, self.settings, self.seed = task, title, settings, seed
        self.state, self.stop, self.accelerator = state, stop, accelerator
        self.stateful = {**task.stateful, **({"scaler": accelerator.scaler} if accelerator.scaler else {})}
        self.pending: list[dict[str, Tensor]] = []  # losses of the steps since the last flush
        self.seconds_to_save = 0.0
        self.first_step = self.saved_step = self._restore()
        self.curves = self.progress = None
        if accelerator.is_main_process:
            self.curves = Curves(log_with, state.folder, title, self.first_step, state.identity)
            self.progress = Progress(state.log, self.curves, title, settings.steps, settings.batch_size)

    def run(self) -> None:
        """Train to the last step.

        Raises:
            Unfinished: a signal came or the time limit is near; the state is saved.
            TrainingDiverged: a loss or a weight is not finite; the checkpoints stay as they are.
        """
        steps = self.settings.steps
        step = self.first_step
        self.started = time.monotonic()
        self._sync_stop(step)
        for batch in self.task.batches(step):
            # For layers that draw from torch's global generator, such as dropout.
            torch.manual_seed(derived_seed(self.seed, "step", step, self.accelerator.process_index))
            self.pending.append(self.task.step(step, batch))
            step += 1
            save_now = step % self.settings.checkpoint_every == 0 or step == steps
            validate_now = step % max(1, steps // VALIDATIONS) == 0 or step == steps
            if step >= self.next_flush or validate_now or save_now:
                self._flush_losses(step)
            if validate_now and self.accelerator.is_main_process:
                self._validate(step)
            if save_now:
                self._save(step)
            if step >= self.next_flush:
                self._sync_stop(step)

    def _restore(self) -> int:
        """Load the newest checkpoint, if any, and return the number of finished steps."""
        main = self.accelerator.is_main_process
        path = broadcast_object_list([self.state.newest_checkpoint() if main else None])[0]
        step = 0
        if path is not None:
            content = self.state.read_checkpoint(path)
            step = content["step"]
            for name, stateful in self.stateful.items():
                stateful.load_state_dict(content["stateful"][name])
        if main:
            self.state.truncate_log(step)
            self.state.begin_attempt(step)
            if step:
                report(f"{self.title}  goes on from step {step}/{self.settings.steps}")
        return step

    def _flush_losses(self, step: int) -> None:
        """Log the losses since the last flush, averaged over processes; waits for the device."""
        names = list(self.pending[0])
        losses = [torch.stack([values[name].detach().float() for name in names]) for values in self.pending]
        rows = self.accelerator.reduce(torch.stack(losses), "mean").tolist()  # [steps, losses]
        self.pending = []
        for number, row in enumerate(rows, step - len(rows) + 1):
            if not all(map(math.isfinite, row)):
                values = ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=True))
                self._raise_diverged(f"loss is not finite at step {number} ({values})")
            if self.accelerator.is_main_process:
                self.progress.add(number, dict(zip(names, row, strict=True)), self.task.learning_rate(number - 1))
        if self.accelerator.is_main_process:
            self.progress.show(step)

    def _validate(self, step: int) -> None:
        validation = self.task.validate()
        if validation.numbers:
            self.progress.write(step, validation.numbers)
        for name, picture in validation.pictures.items():
            self.curves.show(step, name, picture)

    def _sync_stop(self, step: int) -> None:
        """Agree with the other processes on whether to stop and on the step of the next flush."""
        seconds_per_step = (time.monotonic() - self.started) / max(step - self.first_step, 1)
        on_cpu = self.accelerator.device.type == "cpu"
        interval = 1 if on_cpu or step == self.first_step else max(1, int(SECONDS_BETWEEN_FLUSHES / seconds_per_step))
        mine = [self.stop.signal is not None, self.stop.out_of_time(self.seconds_to_save), interval]
        votes = torch.tensor(mine, dtype=torch.float32, device=self.accelerator.device)
        signalled, out_of_time, interval = self.accelerator.reduce(votes, "mean").tolist()
        self.next_flush = step + int(interval)
        if (signalled or out_of_time) and step < self.settings.steps:
            reason = f"stopped by {self.stop.signal or 'a signal'}" if signalled else "time slice used up"
            if step > self.saved_step:
                self._save(step)
            elif out_of_time and step == self.first_step and self.accelerator.is_main_process:
                self.state.attempt_failed("the time limit left no time for a single step")
            self.accelerator.wait_for_everyone()  # a launcher ends all processes as soon as one has ended
            raise Unfinished(
                f"{self.title}  {reason}, saved at step {step}/{self.settings.steps}; the same command goes on with it"
            )

    def _save(self, step: int) -> None:
        began = time.monotonic()
        for name, module in self.stateful.items():
            if isinstance(module, nn.Module) and not all_finite(module):
                self._raise_diverged(f"weights of {name} are not finite after step {step}")
        if self.accelerator.is_main_process:
            content = {name: stateful.state_dict() for name, stateful in self.stateful.items()}
            self.state.save(step, {"stateful": content})
        self.saved_step, self.seconds_to_save = step, time.monotonic() - began

    def _raise_diverged(self, problem: str) -> None:
        last = "there is no checkpoint yet"
        if self.saved_step:
            last = f"the last good checkpoint is {checkpoint_path(self.state.folder, self.saved_step)}"
        raise TrainingDiverged(f"{self.title}: {problem}; {last}. Lower the learning rate or warm up longer")


def run(
    build: Callable[[Accelerator], Task], title: str, settings: TrainingFields, *,
    identity: dict[str, str], seed: int, output: Path, state: Path, time_limit_minutes: float | None,
    log_with: LogWith = "tensorboard", elsewhere: Iterable[Path] = (),
) -> None:  # fmt: skip
    """Train, or continue training, until the finished weights are in ``output``.

    Args:
        build: returns the task; called only if the training is incomplete.
        title: name of the training, for the screen and for errors.
        identity: everything that decides the result, by name; other identities do not share its state.
        output: folder for the finished weights, filled when complete.
        state: folder for checkpoints and logs (see ``dcae.training.state``).
        log_with: tracker of the curves; never affects results.
        elsewhere: further state folders; weights of the same identity that are finished there are taken over.

    Raises:
        ConfigError: precision or batch size does not fit the device or the number of processes.
        TrackerMissing: the package for the curves is not installed.
        Unfinished: stopped by SIGTERM, SIGINT or the time limit; the same call continues.
        TrainingDiverged, NoProgress, StateLocked: see there.
    """
    check_installed(log_with)
    stop = StopRequest(time_limit_minutes)
    accelerator = accelerator_for(settings)
    main = accelerator.is_main_process
    training = TrainingState(state, identity)
    with lock(state) if main else nullcontext(), stop:
        if main:
            training.create()
            if training.is_complete:
                report(f"{title}  was complete already")
            elif origin := training.take_over(elsewhere):
                report(f"{title}  taken from {origin}, equal configuration and data")
        accelerator.wait_for_everyone()
        if not training.is_complete:
            _train(build(accelerator), title, settings, seed, training, stop, accelerator, log_with)
        if main:
            training.publish(output)
        accelerator.wait_for_everyone()


def _train(
    task: Task, title: str, settings: TrainingFields, seed: int,
    training: TrainingState, stop: StopRequest, accelerator: Accelerator, log_with: LogWith,
) -> None:  # fmt: skip
    loop = Loop(task, title, settings, seed, training, stop, accelerator, log_with)
    try:
        loop.run()
        if task.finish:
            task.finish()
        if accelerator.is_main_process:
            training.complete(task.save)
    except (Unfinished, DiskFull):
        raise
    except Exception as error:
        if is_disk_full(error):  # of the log, the curves or the finished weights
            raise DiskFull(training.log) from None
        if accelerator.is_main_process:
            training.attempt_failed(f"{type(error).__name__}: {error}")
        raise
    finally:
        if loop.curves:
            with suppress(OSError):  # a full disk, which the error above names
                loop.curves.finish()
