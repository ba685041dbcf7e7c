# SPDX-License-Identifier: Apache-2.0
"""Ways to run a model: eager, compiled, by ONNX Runtime, by TensorRT; all are checked against eager first."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dcae.benchmark.entries.protocols import Backend
from evaluation.efficiency.export import export_onnx

# Of outputs, relative to their norm: equal but for the order of float32 sums, and for the digits of fp16 and bf16.
LARGEST_DIFFERENCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
FEWEST_REPEATS = 3  # of a block, for which compiling it alone pays
WARM_UPS_OF_A_GRAPH = 3  # before its capture, as PyTorch's notes on CUDA graphs have it

Call = Callable[[], Tensor]


class BackendError(RuntimeError):
    """A backend is not installed, or cannot run this; says what to do."""


class UnequalOutputs(RuntimeError):
    """An optimised model does not compute what the eager one does, so its speed means nothing."""


def ready(backend: Backend, module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    """What runs a module on these inputs and returns its output, the same tensor each time or a new one.

    Args:
        backend: how it is run.
        module: in evaluation mode, in its final precision, from the inputs to one tensor.
        inputs: on the module's device; they may be changed in place between calls, but for ``onnxruntime`` on a CPU.

    Raises:
        BackendError: the backend is not installed or has not got this precision.
        UnequalOutputs: the outputs differ from those of the module itself.
    """
    if backend == "eager":
        return _eager(module, inputs)
    expected = _eager(module, inputs)()
    call = {"compile": _compiled, "onnxruntime": _onnxruntime, "tensorrt": _tensorrt}[backend](module, inputs)
    check_outputs(call(), expected, backend)
    return call


def check_outputs(outputs: Tensor, expected: Tensor, backend: str) -> float:
    """How far outputs are from those of the eager module, relative to their norm.

    Raises:
        UnequalOutputs: too far, or nothing can be said since the eager outputs are zero or not finite.
    """
    outputs, expected_values = outputs.detach().float(), expected.detach().float()
    norm = float(expected_values.norm())
    if norm == 0 or not np.isfinite(norm):
        raise UnequalOutputs(f"eager outputs have the norm {norm}: nothing can be compared with them")
    difference = float((outputs - expected_values).norm()) / norm
    allowed = LARGEST_DIFFERENCE[expected.dtype]
    if not difference <= allowed:  # also where it is not a number
        raise UnequalOutputs(
            f"outputs of {backend} differ from eager by {difference:.1e} of their norm, more than {allowed:.0e}"
        )
    return difference


def compile_blocks(module: nn.Module) -> None:
    """Compile a network where it stands: its repeated blocks, which share one compilation, or else the whole.

    A deep transformer takes minutes as a whole and seconds by its blocks, between which little happens.
    """
    torch.compiler.reset()  # what was compiled for other shapes counts towards a limit, beyond which all is eager
    for each in repeated_blocks(module) or [module]:
        each.compile(dynamic=False)


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of the kinds that stand in a network's lists of modules, if most of them are alike."""
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


# --- torch.compile --------------------------------------------------------------------------------------------------


def _compiled(module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    """Compiled, and on CUDA the whole pass as one CUDA graph."""
    compile_blocks(module)
    call = _eager(module, inputs)
    return _as_cuda_graph(call) if inputs[0].is_cuda else call


def _as_cuda_graph(call: Call) -> Call:
    """One launch for all kernels of a call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS_OF_A_GRAPH):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


# --- ONNX Runtime ---------------------------------------------------------------------------------------------------


def _onnxruntime(module: nn.Module, inputs: Sequence[Tensor]) -> Call:
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
        return _bound_on_cuda(session, module, inputs)
    names = [each.name for each in session.get_inputs()]
    arrays = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, arrays)[0])


def _bound_on_cuda(session, module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    """Inputs and outputs stay on the device."""
    output = torch.empty_like(_eager(module, inputs)())
    binding = session.io_binding()
    index = output.device.index or 0
    tensors = [each.contiguous() for each in inputs]
    for name, each in zip((each.name for each in session.get_inputs()), tensors, strict=True):
        kind = np.dtype(str(each.dtype).removeprefix("torch."))
        binding.bind_input(name, "cuda", index, kind, tuple(each.shape), each.data_ptr())
    name, kind = session.get_outputs()[0].name, np.dtype(str(output.dtype).removeprefix("torch."))
    binding.bind_output(name, "cuda", index, kind, tuple(output.shape), output.data_ptr())

    def run(_keep=tensors) -> Tensor:  # the binding knows addresses only
        session.run_with_iobinding(binding)
        return output

    torch.cuda.synchronize()
    return run


# --- TensorRT -------------------------------------------------------------------------------------------------------


def _tensorrt(module: nn.Module, inputs: Sequence[Tensor]) -> Call:
    """An engine whose every layer has the precision of the ONNX file, run through TensorRT's Python API.

    TensorRT is no dependency: its packages come from NVIDIA's own index and fit one version of CUDA each.
    """
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise BackendError(
            f"backend tensorrt: {error}. Install NVIDIA's package tensorrt for this version of CUDA, or choose compile"
        ) from error
    if not inputs[0].is_cuda:
        raise BackendError("backend tensorrt needs an NVIDIA GPU: choose onnxruntime or compile on a CPU")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    flags = tensorrt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = tensorrt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(module, inputs, Path(folder) / "model.onnx")
        if not parser.parse_from_file(str(path)):
            errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise BackendError(f"TensorRT cannot read the exported model: {errors}")
        plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise BackendError("TensorRT could not build an engine; its log says why")
    engine = tensorrt.Runtime(logger).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    output = torch.empty_like(_eager(module, inputs)())
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    given = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
    made = [name for name in names if name not in given]
    tensors = [each.contiguous() for each in inputs]
    for name, each in [*zip(given, tensors, strict=True), *zip(made, [output], strict=True)]:
        context.set_tensor_address(name, each.data_ptr())

    def run(_keep=(engine, tensors)) -> Tensor:  # the context knows addresses only
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise BackendError("TensorRT could not run the engine; its log says why")
        return output

    return run
