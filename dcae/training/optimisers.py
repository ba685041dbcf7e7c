# SPDX-License-Identifier: Apache-2.0
"""AdamW or Muon with linear warm-up and gradient clipping, and the exponential moving average of weights."""

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
from dcae.training.muon import MOMENTUM, Muon, is_matrix

Part = TypeVar("Part")


def parameter_groups(trained: Sequence[nn.Parameter], weight_decay: float, decay_norms_and_biases: bool) -> list[dict]:
    """Group parameters by weight decay.

    Norms and biases are the parameters with fewer than two dimensions.
    """
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
        self.module, self.settings = module, settings
        self.gradient_clip, self.accelerator = gradient_clip, accelerator
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        matrices = [each for each in trained if settings.muon_learning_rate and is_matrix(each)]
        chosen = set(map(id, matrices))
        others = [each for each in trained if id(each) not in chosen]
        groups = parameter_groups(others, settings.weight_decay, settings.decay_norms_and_biases)
        self.optimisers = {}
        if groups:
            adamw = torch.optim.AdamW(
                groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True
            )
            self.optimisers["adamw"] = accelerator.prepare_optimizer(adamw)
        if matrices:
            momentum = MOMENTUM if settings.muon_momentum is None else settings.muon_momentum
            muon = Muon(matrices, settings.muon_learning_rate, settings.weight_decay, momentum)
            self.optimisers["muon"] = accelerator.prepare_optimizer(muon)

    def learning_rate(self, step: int) -> float:
        """Return AdamW's learning rate at a step; ``step`` counts from 0."""
        return self.settings.learning_rate * self.schedule(step)

    def schedule(self, step: int) -> float:
        """Return the learning rates' share of their full values at a step."""
        warmed_up = min(1.0, (step + 1) / max(self.settings.warmup_steps, 1))
        if self.settings.cosine_steps is None:
            return warmed_up
        done = min(1.0, step / self.settings.cosine_steps)
        return warmed_up * (1 + math.cos(math.pi * done)) / 2

    def update(self, step: int, parts: Sequence[Part], loss_of: Callable[[Part], Tensor]) -> None:
        """Take one optimiser step along the gradient of the parts' mean loss.

        Only one part's graph is alive at a time: its backward pass follows its forward pass, ``loss_of``. Processes
        average their gradients in the last backward pass.
        """
        full = {"adamw": self.settings.learning_rate, "muon": self.settings.muon_learning_rate}
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = full[name] * self.schedule(step)
            optimiser.zero_grad()
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.module):
                self.accelerator.backward(loss_of(part) / len(parts))
        if self.gradient_clip:
            # Accelerate's own clipping would unscale the gradients of all optimisers at once in fp16.
            self.accelerator.unscale_gradients(list(self.optimisers.values()))
            groups = [group for optimiser in self.optimisers.values() for group in optimiser.param_groups]
            parameters = [parameter for group in groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
        for optimiser in self.optimisers.values():
            optimiser.step()

    def state_dict(self) -> dict:
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])


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
