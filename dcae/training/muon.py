# SPDX-License-Identifier: Apache-2.0
"""Muon: gradient steps whose matrices are orthogonalised (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

``torch.optim.Muon`` takes matrices alone, and computes in bfloat16, which CPUs without such arithmetic do a hundred
times slower. This one takes the kernels of convolutions too, and computes in their own precision.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration; five of them bring singular values from 0.001 ... 1 to 0.7 ... 1.2."""
ITERATIONS = 5
MOMENTUM = 0.95


def is_matrix(parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix for Muon: a side under 4 has too few directions to even out.

    The kernels of depth-wise convolutions and of those from or to an image are none.
    """
    return parameter.dim() in (2, 4) and parameter.shape[0] >= 4 and parameter.shape[1] >= 4


def as_matrix(kernel: Tensor) -> Tensor:
    """Return [out, in] as it is, and [out, in, h, w] as [out, in h w], or as [out h w, in] where out is larger.

    The smaller side decides the cost.
    """
    if kernel.dim() == 2:
        return kernel
    if kernel.shape[0] > kernel.shape[1]:
        return kernel.permute(0, 2, 3, 1).flatten(0, 2)
    return kernel.flatten(1)


def as_kernel(matrix: Tensor, shape: torch.Size) -> Tensor:
    """Invert ``as_matrix``."""
    if len(shape) == 4 and shape[0] > shape[1]:
        out, into, height, width = shape
        return matrix.reshape(out, height, width, into).permute(0, 3, 1, 2)
    return matrix.reshape(shape)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about U V^T of a matrix U S V^T, by Newton-Schulz iterations.

    An iteration multiplies the matrix by a polynomial of its product with itself, which is small: these are multiplied
    with each other first.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    squared, total = x @ x.T, None
    for iteration in range(ITERATIONS):
        factor = torch.addmm(squared, squared, squared, beta=b, alpha=c)
        factor.diagonal().add_(a)
        total = factor if total is None else factor @ total
        if iteration < ITERATIONS - 1:
            squared = factor @ squared @ factor
    x = total @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, times the learning rate and the root of max(1, out / in).

    Args:
        parameters: of which ``is_matrix`` is true.
        lr: learning rate.
        weight_decay: decoupled, as AdamW's.
        momentum: share of the average of gradients that a step keeps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = MOMENTUM):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("momentum", MOMENTUM)  # checkpoints from before it could be chosen

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                direction = orthogonalised(as_matrix(parameter.grad.lerp(momentum, group["momentum"])))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(as_kernel(direction, parameter.shape), alpha=-group["lr"] * scale)
