# SPDX-License-Identifier: Apache-2.0
"""AdamW with linear warm-up and gradient clipping, and the exponential moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcae.benchmark.entries import EMA, AdamW

Part = TypeVar("Part")


def parameter_groups(module: nn.Module, weight_decay: float, decay_norms_and_biases: bool) -> list[dict]:
    """Group a module's trained parameters by weight decay.

    Norms and biases are the parameters with fewer than two dimensions.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if decay_norms_and_biases or parameter.dim() >= 2]
    spared = [parameter for parameter in trained if not (decay_norms_and_biases or parameter.dim() >= 2)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class Updater:
    """Updates a module's trained parameters.

    The learning rate depends only on the step: linear up to ``warmup_steps``, then constant or along a half cosine.

    Args:
        module: as ``engine.prepare`` returned it, so that several processes average its gradients once per update.
        settings, gradient_clip: of the recipe.
        accelerator: device, processes and precision.
    """

    def __init__(self, module: nn.Module, settings: AdamW, gradient_clip: float | None, accelerator: Accelerator):
        groups = parameter_groups(module, settings.weight_decay, settings.decay_norms_and_biases)
        optimiser = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True
        )
        self.module, self.settings = module, settings
        self.gradient_clip, self.accelerator = gradient_clip, accelerator
        self.optimiser = accelerator.prepare_optimizer(optimiser)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step; ``step`` counts from 0."""
        warmed_up = min(1.0, (step + 1) / max(self.settings.warmup_steps, 1))
        if self.settings.cosine_steps is None:
            return self.settings.learning_rate * warmed_up
        done = min(1.0, step / self.settings.cosine_steps)
        return self.settings.learning_rate * warmed_up * (1 + math.cos(math.pi * done)) / 2

    def update(self, step: int, parts: Sequence[Part], loss_of: Callable[[Part], Tensor]) -> None:
        """Take one optimiser step along the gradient of the parts' mean loss.

        Only one part's graph is alive at a time: its backward pass follows its forward pass, ``loss_of``. Processes
        average their gradients in the last backward pass.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimiser.zero_grad()
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.module):
                self.accelerator.backward(loss_of(part) / len(parts))
        if self.gradient_clip:
            # Accelerate's own clipping would unscale the gradients of all optimisers at once in fp16.
            self.accelerator.unscale_gradients(self.optimiser)
            parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
        self.optimiser.step()

    def state_dict(self) -> dict:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.optimiser.load_state_dict(state)


class MovingAverage:
    """Exponential moving average of a module's weights; ``module`` is the averaged copy, with the module's buffers.

    The decay of step s (from 0) is ``decay * (1 - exp(-(s + 1) / ramp_steps))``, or constant without a ramp. Step 0
    copies the weights.
    """

    def __init__(self, module: nn.Module, settings: EMA):
        self.settings = settings
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    def decay(self, step: int) -> float:
        ramp = self.settings.ramp_steps
        return self.settings.decay * (1 - math.exp(-(step + 1) / ramp) if ramp else 1.0)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take the weights of a step; torch's ``AveragedModel`` would wait for the device."""
        weight = 1 - self.decay(step) if step else 1.0
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), weight)
        for averaged, current in zip(self.module.buffers(), module.buffers(), strict=True):
            averaged.copy_(current)

    # The names are those of torch's ``AveragedModel``, whose count older checkpoints hold.

    def state_dict(self) -> dict:
        return {f"module.{name}": value for name, value in self.module.state_dict().items()}

    def load_state_dict(self, state: dict) -> None:
        weights = {name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"}
        self.module.load_state_dict(weights)
