# SPDX-License-Identifier: Apache-2.0
"""A model by ONNX Runtime: on a CPU, and on CUDA where its package for GPUs is installed."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.efficiency.memory import BackendError

LARGEST_FILE = 1_500_000_000  # bytes of weights in the file itself; protocol buffers end at 2 GiB


def run_by_onnxruntime(module: nn.Module, inputs: Sequence[Tensor], like: Tensor) -> Callable[[], Tensor]:
    """Return a call that runs the exported module on these inputs.

    Args:
        module: in evaluation mode, from the inputs to one tensor.
        inputs: fp32 or fp16, with whole numbers and masks.
        like: the module's output on them.

    Raises:
        BackendError: this onnxruntime has no CUDA, or the precision is bf16.
    """
    import onnxruntime

    cuda = inputs[0].is_cuda
    provider = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise BackendError("this onnxruntime has no CUDA: pip uninstall onnxruntime, pip install onnxruntime-gpu")
    if torch.bfloat16 in {each.dtype for each in inputs}:
        raise BackendError("onnxruntime takes no bf16 from here: choose fp32 or fp16 as precision")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(module, inputs, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if provider not in session.get_providers():
        raise BackendError(f"onnxruntime could not start {provider}; its log says why")
    if cuda:
        return _bound_on_cuda(session, inputs, torch.empty_like(like, memory_format=torch.contiguous_format))
    names = [each.name for each in session.get_inputs()]
    arrays = {name: np.ascontiguousarray(each.numpy()) for name, each in zip(names, inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, arrays)[0])


def _bound_on_cuda(session, inputs: Sequence[Tensor], output: Tensor) -> Callable[[], Tensor]:
    """Return a call with inputs and outputs on the device, which waits for the device."""
    binding = session.io_binding()
    index = output.device.index or 0
    tensors = [each.contiguous() for each in inputs]
    for name, each in zip((each.name for each in session.get_inputs()), tensors, strict=True):
        binding.bind_input(name, "cuda", index, _numpy_type(each), tuple(each.shape), each.data_ptr())
    name = session.get_outputs()[0].name
    binding.bind_output(name, "cuda", index, _numpy_type(output), tuple(output.shape), output.data_ptr())

    def run(_keep=tensors) -> Tensor:  # the binding knows addresses only
        session.run_with_iobinding(binding)
        return output

    torch.cuda.synchronize()
    return run


def _numpy_type(tensor: Tensor) -> np.dtype:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


# --- export ---


def export_onnx(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> Path:
    """Write a module as an ONNX file for inputs of exactly these shapes; weights keep their precision.

    Args:
        module: in evaluation mode, from the inputs to one tensor.
        inputs: in their order.
        path: of the file; weights that are too large for one file go into a second one.
    """
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, tuple(inputs), strict=False)
        _drop_squeezes_of_nothing(program.graph)
        onnx = torch.onnx.export(program, (), dynamo=True, verbose=False)
    size = sum(parameter.nbytes for parameter in module.parameters())
    onnx.save(path, external_data=size > LARGEST_FILE)
    return Path(path)


def _drop_squeezes_of_nothing(graph: torch.fx.Graph) -> None:
    """Drop squeezes that change no shape (PixArt in diffusers): ONNX, unlike PyTorch, squeezes any dimension."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.squeeze.dim and node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
