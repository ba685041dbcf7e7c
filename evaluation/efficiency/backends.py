# SPDX-License-Identifier: Apache-2.0
"""Ways to run a model: eager, compiled, by ONNX Runtime, by TensorRT; all are checked against eager first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dcae.benchmark.entries.protocols import Backend
from evaluation.efficiency.memory import UnequalOutputs, release
from evaluation.efficiency.onnx_runtime import run_by_onnxruntime
from evaluation.efficiency.tensor_rt import run_by_tensorrt
from evaluation.efficiency.timing import as_cuda_graph

# Of outputs, relative to their norm: equal but for the order of float32 sums, and for the digits of fp16 and bf16.
LARGEST_DIFFERENCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
FEWEST_REPEATS = 3  # of a block, for which compiling it alone pays

Call = Callable[[], Tensor]


def ready(backend: Backend, module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    """Return a call that runs a module on these inputs; its output is the same tensor each time or a new one.

    Args:
        backend: how it is run.
        module: in evaluation mode, in its final precision, from the inputs to one tensor.
        inputs: on the module's device; they may be changed in place between calls, but for ``onnxruntime`` on a CPU.

    Raises:
        BackendError: the backend is not installed or does not support this precision.
        UnequalOutputs: the outputs differ from those of the module itself.
    """
    if backend == "eager":
        return _eager(module, inputs)
    with torch.compiler.set_stance("force_eager"):  # parts may be compiled already, for another shape or method
        expected = _eager(module, inputs)()
    release(inputs[0].device)  # ONNX Runtime and TensorRT allocate beside PyTorch, and a CUDA graph has its own memory
    call = BACKENDS[backend](module, inputs, expected)
    check_outputs(call(), expected, backend)
    return call


def check_outputs(outputs: Tensor, expected: Tensor, backend: str, allowed: float | None = None) -> float:
    """Return the distance of outputs from those of the eager module, relative to their norm.

    ``allowed``: largest distance; by default that of the precision of the expected outputs.

    Raises:
        UnequalOutputs: too far, or nothing can be said since the eager outputs are zero or not finite.
    """
    outputs, expected_values = outputs.detach().float(), expected.detach().float()
    norm = float(expected_values.norm())
    if norm == 0 or not math.isfinite(norm):
        raise UnequalOutputs(f"eager outputs have the norm {norm}: nothing can be compared with them")
    difference = float((outputs - expected_values).norm()) / norm
    allowed = allowed or LARGEST_DIFFERENCE[expected.dtype]
    if not difference <= allowed:  # also where it is not a number
        raise UnequalOutputs(
            f"outputs of {backend} differ from eager by {difference:.1e} of their norm, more than {allowed:.0e}"
        )
    return difference


def compile_blocks(module: nn.Module) -> None:
    """Compile a network in place: its repeated blocks, which share one compilation, or else the whole.

    A deep transformer takes minutes as a whole and seconds by its blocks, between which little happens.
    """
    torch.compiler.reset()  # earlier compilations count towards a limit, beyond which everything runs eager
    for each in repeated_blocks(module) or [module]:
        each.compile(dynamic=False)


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks of the classes in a network's module lists, if most of them are alike."""
    kinds = {type(block) for blocks in _outermost_lists(module) for block in blocks}
    found = [each for each in module.modules() if type(each) in kinds]
    shapes = {(type(each), tuple(parameter.shape for parameter in each.parameters())) for each in found}
    return found if len(found) >= FEWEST_REPEATS * len(shapes) else []


def _outermost_lists(module: nn.Module) -> list[nn.ModuleList]:
    if isinstance(module, nn.ModuleList):
        return [module]
    return [found for child in module.children() for found in _outermost_lists(child)]


def _eager(module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    return torch.inference_mode()(lambda: module(*inputs))


def _compiled(module: nn.Module, inputs: Sequence[Tensor], like: Tensor) -> Call:
    """Compile a module; on CUDA the whole pass is one CUDA graph."""
    compile_blocks(module)
    call = _eager(module, inputs)
    return as_cuda_graph(call) if inputs[0].is_cuda else call


BACKENDS = {"compile": _compiled, "onnxruntime": run_by_onnxruntime, "tensorrt": run_by_tensorrt}
