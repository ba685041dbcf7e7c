# SPDX-License-Identifier: Apache-2.0
"""Parts of the CUDA measurements that need no GPU: passes without host tensors, and readings of NVML."""

import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.efficiency.denoiser import for_inference, inference_inputs
from evaluation.efficiency.memory import BackendError
from evaluation.efficiency.profile import read_nvml
from evaluation.efficiency.tensor_rt import run_by_tensorrt
from tests.evaluation.efficiency.tiny import changed, shape


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


def test_nvml_is_read_and_readings_that_a_device_lacks_are_left_out():
    class NVMLError(Exception):
        pass

    def refuse(*arguments):
        raise NVMLError

    nvml = SimpleNamespace(
        **{name: getattr(pynvml, name) for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU")},
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetClockInfo=lambda handle, kind: 2619 if kind == pynvml.NVML_CLOCK_MEM else 1755,
        nvmlDeviceGetMaxClockInfo=refuse, nvmlDeviceGetTemperature=lambda handle, sensor: 61,
        nvmlDeviceGetPowerUsage=lambda handle: 650_000, nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 4,
    )  # fmt: skip
    assert read_nvml(nvml, "1234") == {
        "clock_mhz": 1755, "memory_clock_mhz": 2619, "temperature_celsius": 61, "power_watts": 650,
        "power_limit_watts": 700, "clock_limits": 4,
    }  # fmt: skip
    nvml.nvmlInit = refuse
    assert read_nvml(nvml, "1234") == {}
    assert all(callable(getattr(pynvml, name)) for name in vars(nvml) if name.startswith("nvml"))


def test_an_old_tensorrt_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.1"))
    with pytest.raises(BackendError, match=r"8\.6\.1 is installed, 10 or later is needed"):
        run_by_tensorrt(torch.nn.Identity(), [torch.zeros(4)], torch.zeros(4))
