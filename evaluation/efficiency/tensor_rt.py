# SPDX-License-Identifier: Apache-2.0
"""A model by TensorRT's Python API, of versions 10 and 11, on an NVIDIA GPU.

TensorRT is no dependency: its packages come from NVIDIA's own index and fit one version of CUDA each. The authors give
an fp32 ONNX file and ``--fp16`` to trtexec, which then chooses the precision of each layer; here the network is
strongly typed (the only way in TensorRT 11): every layer has the precision of the exported model.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from evaluation.efficiency.memory import BackendError, release
from evaluation.efficiency.onnx_runtime import export_onnx
from evaluation.efficiency.timing import as_cuda_graph

OLDEST = 10  # older ones have no whole numbers of 64 bits as inputs, and read no operators as new as those exported


def run_by_tensorrt(module: nn.Module, inputs: Sequence[Tensor], like: Tensor) -> Callable[[], Tensor]:
    """Return a call that runs the exported module's engine on these inputs, as one CUDA graph.

    Args:
        module: in evaluation mode, from the inputs to one tensor.
        inputs: on an NVIDIA GPU.
        like: the module's output on them.

    Raises:
        BackendError: TensorRT is not installed or too old, or there is no GPU.
        RuntimeError: TensorRT cannot read the model, or build or run an engine of it.
    """
    tensorrt = _import_tensorrt()
    if not inputs[0].is_cuda:
        raise BackendError("backend tensorrt needs an NVIDIA GPU: choose onnxruntime or compile on a CPU")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    runtime = tensorrt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(_plan(tensorrt, logger, module, inputs))
    context = engine.create_execution_context()
    if context is None:
        raise RuntimeError("TensorRT: out of memory for the engine's activations, or another reason in its log")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    given = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
    made = [name for name in names if name not in given]
    output = torch.empty_like(like, memory_format=torch.contiguous_format)
    tensors = [*(each.contiguous() for each in inputs), output]
    for name, each in zip([*given, *made], tensors, strict=True):
        wanted = engine.get_tensor_dtype(name)
        if wanted != getattr(tensorrt.DataType, _TYPES[each.dtype]):
            raise RuntimeError(f"TensorRT wants {name} as {wanted}, it is {each.dtype}")
        context.set_tensor_address(name, each.data_ptr())

    def run(_keep=(runtime, engine, tensors)) -> Tensor:  # the context knows addresses only
        # Within a capture this is not the default stream, on which TensorRT would wait for the device at each call.
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT could not run the engine; its log says why")
        return output

    return as_cuda_graph(run)


_TYPES = {
    torch.float32: "FLOAT", torch.float16: "HALF", torch.bfloat16: "BF16", torch.int64: "INT64", torch.bool: "BOOL",
}  # fmt: skip


def _import_tensorrt() -> ModuleType:
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise BackendError(
            f"backend tensorrt: {error}. Install NVIDIA's package tensorrt for this version of CUDA, or choose compile"
        ) from error
    if int(tensorrt.__version__.split(".")[0]) < OLDEST:
        raise BackendError(
            f"backend tensorrt: version {tensorrt.__version__} is installed, {OLDEST} or later is needed"
        )
    return tensorrt


def _plan(tensorrt: ModuleType, logger: object, module: nn.Module, inputs: Sequence[Tensor]) -> object:
    """Return the serialised engine of a module at the shapes of these inputs."""
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(module, inputs, Path(folder) / "model.onnx")
        if not parser.parse_from_file(str(path)):
            errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise RuntimeError(f"TensorRT cannot read the exported model: {errors}")
        release(inputs[0].device)  # it allocates beside PyTorch
        plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError("TensorRT could not build an engine; its log says why")
    return plan
