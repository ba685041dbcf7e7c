# SPDX-License-Identifier: Apache-2.0
"""A step of a training, as it is timed and as its memory is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import EfficiencyProtocol
from evaluation.efficiency.backends import LARGEST_DIFFERENCE, check_outputs, compile_blocks
from evaluation.efficiency.timing import DTYPES

# Without it, the gradients of a mean over many outputs are 0 in fp16, and products with zeros take a GPU less power and
# time. The first scale of PyTorch's GradScaler; AdamW's steps do not depend on it.
LOSS_SCALE_OF_FP16 = 2.0**16
MORE_FOR_GRADIENTS = 4  # times the difference of outputs: gradients pass through a network twice


def autocast(protocol: EfficiencyProtocol, device: torch.device) -> AbstractContextManager:
    """Return the context of a forward pass in the protocol's precision, with float32 weights."""
    if protocol.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[protocol.precision])


class Training:
    """Forward, backward and AdamW on one batch; float32 weights, the forward pass in the protocol's precision.

    Trains the parameters that require a gradient; the loss is the mean square of the outputs, which needs no targets.
    In fp16 it is scaled by a constant: a scaler that looks at the gradients would be timed, too, and the authors have
    none.

    Raises:
        UnequalOutputs: compiled, it has other gradients than eager.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor], protocol: EfficiencyProtocol, compiled: bool):
        self.module, self.inputs, self.protocol = module, inputs, protocol
        self.device = inputs[0].device
        self.trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        fused = compiled and self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-4, fused=fused or None)
        if compiled:
            self._compile()

    def _compile(self) -> None:
        """Compile the network, and compare its gradients with the eager one's."""
        expected = self._some_gradients()
        compile_blocks(self.module)
        allowed = MORE_FOR_GRADIENTS * LARGEST_DIFFERENCE[DTYPES[self.protocol.precision]]
        check_outputs(self._some_gradients(), expected, "compile (gradients)", allowed)

    def _some_gradients(self) -> Tensor:
        """Gradients of the first, a middle and the last parameter; all would take as much memory as the model."""
        self.begin_again()
        self.forward_backward()
        chosen = [self.trained[index].grad for index in (0, len(self.trained) // 2, -1)]
        found = torch.cat([each.flatten() for each in chosen])
        self.optimiser.zero_grad(set_to_none=True)
        return found

    def begin_again(self) -> None:
        """Restart the random numbers of a step; this one draws none."""

    def loss(self) -> Tensor:
        """Run a forward pass. Returns the loss, a scalar."""
        with autocast(self.protocol, self.device):
            outputs = self.module(*self.inputs)
        return outputs.float().square().mean()

    def forward_backward(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss()
        if self.protocol.precision == "fp16":
            loss = loss * LOSS_SCALE_OF_FP16
        loss.backward()

    def update(self) -> None:
        self.optimiser.step()

    def is_finite(self) -> bool:
        """Return whether all weights are finite; with others a GPU may be faster."""
        return all(bool(each.isfinite().all()) for each in self.module.parameters())

    def __call__(self) -> None:
        self.forward_backward()
        self.update()
