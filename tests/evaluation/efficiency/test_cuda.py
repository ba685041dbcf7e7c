# SPDX-License-Identifier: Apache-2.0
"""What is asked of a GPU and in which order, on stand-ins that write it down: no GPU is needed."""

import contextlib
import ctypes
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.efficiency import conditions, cuda_graph, onnx_runtime, tensor_rt
from evaluation.efficiency.cuda_graph import as_cuda_graph
from evaluation.efficiency.denoiser import for_inference, inference_inputs
from evaluation.efficiency.errors import BackendError
from evaluation.efficiency.memory import AllocatedOnCuda, training_peaks
from evaluation.efficiency.timing import step_durations
from tests.evaluation.efficiency.tiny import changed, shape

CUDA = torch.device("cuda")


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.fixture
def log(monkeypatch):
    """What was asked of the device."""
    asked: list[str] = []

    class Stream:
        def __init__(self, name: str = "side"):
            self.name, self.cuda_stream = name, 7 if name == "side" else 0

        def wait_stream(self, other):
            asked.append(f"{self.name} waits for {other.name}")

    current = [Stream("default")]

    @contextlib.contextmanager
    def on(stream):
        current.append(stream)
        yield
        current.pop()

    @contextlib.contextmanager
    def capture(graph):
        asked.append("capture begins")
        with on(Stream()):
            yield
        asked.append("capture ends")

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append("event")
            self.number = asked.count("event")

        def elapsed_time(self, later):
            return 250.0 * (later.number - self.number)  # milliseconds

    cuda = {
        "Stream": Stream, "stream": on, "current_stream": lambda: current[-1], "Event": Event, "graph": capture,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: asked.append("replay")),
        "empty_cache": lambda: asked.append("release"), "synchronize": lambda: asked.append("wait"),
    }  # fmt: skip
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: asked.append("wait"))
    return asked


def test_steps_are_timed_by_events_and_observed_while_the_device_is_at_work(log):
    durations = step_durations(lambda: log.append("step"), 2, CUDA, lambda: log.append("observe"))
    assert durations == [0.25, 0.25]
    assert log == ["wait", "event", "step", "event", "step", "event", "observe", "wait"]


def test_a_graph_is_captured_after_a_warm_up_on_a_stream_of_its_own(log):
    output = torch.zeros(1)

    def call():
        log.append(f"call on {torch.cuda.current_stream().name}")
        return output

    replay = as_cuda_graph(call)
    assert log == [
        "side waits for default", *["call on side"] * cuda_graph.WARM_UPS, "default waits for side", "release",
        "capture begins", "call on side", "capture ends",
    ]  # fmt: skip
    assert replay() is output
    assert log[-1] == "replay"


class OnOneDevice(TorchDispatchMode):
    """Refuses operators that bring a tensor from the host, which a capture does not allow."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        assert {each.device.type for each in given} <= {"meta"}, f"{operator} of a tensor on the host"
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["u-vit", "dit", "pixart"])
def test_a_pass_of_a_denoiser_can_be_captured(kind):
    """It reads no value, for which it would wait (the meta device has none), and nothing comes from the host."""
    meta, protocol = torch.device("meta"), changed(precision="fp16")
    module = for_inference(shape(kind), protocol, meta)
    with OnOneDevice(), torch.inference_mode():
        assert module(*inference_inputs(shape(kind), 2, protocol, meta)).dtype == torch.float16


# --- memory ---


class Allocator:
    """PyTorch's, as far as it is asked."""

    def __init__(self, monkeypatch, allocated: int):
        self.allocated = self.most = allocated
        for name in ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda device, name=name: getattr(self, name)())
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def change(self, count: int) -> None:
        self.allocated += count
        self.most = max(self.most, self.allocated)

    def memory_allocated(self) -> int:
        return self.allocated

    def max_memory_allocated(self) -> int:
        return self.most

    def reset_peak_memory_stats(self) -> None:
        self.most = self.allocated


def test_a_peak_is_of_what_is_made_inside_and_of_the_second_step(monkeypatch):
    allocator = Allocator(monkeypatch, allocated=1000)

    class Step:
        def __init__(self):
            allocator.change(100)  # weights
            self.state = 200

        def forward_backward(self):
            allocator.change(70 + (self.state == 0))
            allocator.change(-30)  # 40 of gradients

        def update(self):
            allocator.change(self.state + 10)
            self.state = 0
            allocator.change(-10 - 40)

    peaks = training_peaks(Step, CUDA)
    assert (peaks.forward_backward, peaks.update) == (100 + 200 + 71, 100 + 200 + 41 + 10)
    with AllocatedOnCuda(CUDA) as memory:
        allocator.change(5)
        allocator.change(-5)
        assert memory.peak == 5


# --- clocks ---


def test_clocks_are_read_of_the_device_itself_and_what_it_does_not_tell_is_left_out(monkeypatch):
    class NVMLError(Exception):
        pass

    def refuse(*arguments):
        raise NVMLError

    def by_uuid(uuid):
        assert uuid == "GPU-1234"
        return "handle"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    nvml = SimpleNamespace(
        NVMLError=NVMLError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetClockInfo=lambda handle, kind: {1: 1755, 2: 2619}[kind], nvmlDeviceGetMaxClockInfo=refuse,
        nvmlDeviceGetTemperature=lambda handle, sensor: 61, nvmlDeviceGetPowerUsage=lambda handle: 650_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 4,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert conditions.read_conditions(CUDA) == {
        "clock_mhz": 1755, "memory_clock_mhz": 2619, "temperature_celsius": 61, "power_watts": 650,
        "power_limit_watts": 700, "clock_limits": 4,
    }  # fmt: skip
    nvml.nvmlInit = refuse
    assert conditions.read_conditions(CUDA) == {}


def test_nvml_has_what_is_asked_of_it():
    import pynvml

    for name in ("ClockInfo", "MaxClockInfo", "Temperature", "PowerUsage", "EnforcedPowerLimit", "HandleByUUID"):
        assert callable(getattr(pynvml, f"nvmlDeviceGet{name}"))
    assert callable(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)


# --- TensorRT ---


class TensorRT:
    """Version 10 of its Python API, as far as it is used; its engine copies the first input to the output."""

    __version__ = "10.13.0"
    DataType = SimpleNamespace(FLOAT="FLOAT", HALF="HALF", INT64="INT64", BOOL="BOOL", BF16="BF16")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    names = ("latents", "timesteps", "output")

    class Logger:
        ERROR = 1

        def __init__(self, level): ...

    def __init__(self, log, plan=b"plan", types=("FLOAT", "INT64", "FLOAT")):
        self.log, self.plan, self.types, self.addresses = log, plan, dict(zip(self.names, types, strict=True)), {}

    def Builder(self, logger):
        network = lambda flags: self.log.append(f"network {flags}")  # noqa: E731
        return SimpleNamespace(
            create_network=network,
            create_builder_config=lambda: None,
            build_serialized_network=lambda network, config: self.plan,
        )

    def OnnxParser(self, network, logger):
        return SimpleNamespace(
            parse_from_file=lambda path: bool(open(path).read()), num_errors=1, get_error=lambda index: "no such node"
        )

    def Runtime(self, logger):
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self)

    num_io_tensors = 3

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return "out" if name == "output" else "in"

    def get_tensor_dtype(self, name):
        return self.types[name]

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        self.log.append(f"run on stream {stream}")
        ctypes.memmove(self.addresses["output"], self.addresses["latents"], 4 * 4)
        return True


@pytest.fixture
def run(log, monkeypatch):
    """Run a tiny model by a stand-in of TensorRT."""

    def run(trt: TensorRT, model: str = "model"):
        monkeypatch.setitem(sys.modules, "tensorrt", trt)

        def export(module, inputs, path):
            path.write_text(model)
            return path

        monkeypatch.setattr(tensor_rt, "export_onnx", export)
        inputs = [torch.arange(4.0).as_subclass(OnCuda), torch.zeros(1, dtype=torch.long)]
        return tensor_rt.run_by_tensorrt(torch.nn.Identity(), inputs, torch.zeros(4))

    return run


def test_tensorrt_runs_a_strongly_typed_engine_on_the_addresses_of_the_inputs_in_a_graph(log, run):
    call = run(TensorRT(log))
    assert "network 2" in log  # 1 << STRONGLY_TYPED
    assert log.count("run on stream 7") == cuda_graph.WARM_UPS + 1  # never on the default stream, which is 0
    assert call().tolist() == [0, 1, 2, 3]
    assert log[-1] == "replay"


@pytest.mark.parametrize(("changes", "model", "error", "message"), [
    ({"plan": None}, "model", RuntimeError, "could not build an engine"),
    ({}, "", RuntimeError, "cannot read the exported model: no such node"),
    ({"types": ("HALF", "INT64", "FLOAT")}, "model", RuntimeError, "wants latents as HALF, it is torch.float32"),
])  # fmt: skip
def test_what_tensorrt_cannot_do_with_a_model_is_told(log, run, changes, model, error, message):
    with pytest.raises(error, match=message) as caught:
        run(TensorRT(log, **changes), model)
    assert not isinstance(caught.value, BackendError)  # another model may do


def test_an_old_tensorrt_is_refused(log, run):
    old = TensorRT(log)
    old.__version__ = "8.6.1"
    with pytest.raises(BackendError, match=r"8\.6\.1 is installed, 10 or later is needed"):
        run(old)


# --- ONNX Runtime ---


def test_onnxruntime_is_bound_to_addresses_on_the_device(log):
    bound = {}

    def bind(name, *arguments):
        bound[name] = arguments

    names = [SimpleNamespace(name="latents"), SimpleNamespace(name="timesteps")]
    session = SimpleNamespace(
        io_binding=lambda: SimpleNamespace(bind_input=bind, bind_output=bind),
        get_inputs=lambda: names,
        get_outputs=lambda: [SimpleNamespace(name="output")],
        run_with_iobinding=lambda binding: log.append("run"),
    )
    latents = torch.zeros(2, 3, 4, 4, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    output = torch.zeros(2, 3)
    call = onnx_runtime._bound_on_cuda(session, [latents, torch.zeros(2, dtype=torch.long)], output)
    assert bound["latents"][:4] == ("cuda", 0, "float16", (2, 3, 4, 4))
    assert bound["timesteps"][2] == "int64"
    assert bound["output"] == ("cuda", 0, "float32", (2, 3), output.data_ptr())
    assert call() is output
    assert log == ["wait", "run"]
