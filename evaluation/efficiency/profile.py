# SPDX-License-Identifier: Apache-2.0
"""The measurement of one row: values, reasons for missing ones, and the conditions."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any, Literal

import torch

from dcae.benchmark.entries import EfficiencyProtocol
from dcae.benchmark.record import Value
from evaluation.efficiency.memory import BackendError, NotEnoughMemory, UnequalOutputs, catch_out_of_memory, release
from evaluation.efficiency.timing import disagreements, matrix_product_rate

# Raise it when results change, and say below what each raise changed.
# 2: repeats in processes of their own, whose spread is the error
RESULTS_VERSION = 2

FAILED = "failed: "  # how the reason begins where neither memory nor unequal outputs are it
LONGEST_REASON = 300  # characters of an error's first line


class MeasurementFailed(RuntimeError):
    """Values could not be measured for another reason than memory or unequal outputs."""


def failure(error: BaseException) -> str:
    """Return an error as the reason for a missing value."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{FAILED}{type(error).__name__}: {first[:LONGEST_REASON]}"


@dataclass
class Profile:
    """The measurement of one row. ``excluded``: reasons for missing values; ``remarks``: cautions."""

    values: dict[str, Value] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def failed(self) -> dict[str, str]:
        """Values that are missing for another reason than memory or unequal outputs."""
        return {name: why for name, why in self.excluded.items() if why.startswith(FAILED)}

    def exclude(self, names: str | Iterable[str], why: str) -> None:
        """Set the reason for missing values."""
        self.excluded |= dict.fromkeys((names,) if isinstance(names, str) else names, why)

    def attempt(self, names: str | tuple[str, ...], measure: Callable[[], dict[str, Value]], device: torch.device):
        """Add the values of a measurement, or the reason for their absence, which costs a value, not the row.

        Args:
            names: names of the values that the measurement gives.
            measure: returns them.
            device: the device that may run out of memory.

        Raises:
            BackendError: a backend is not installed or does not support the precision, which affects every row.
        """
        try:
            self.values |= catch_out_of_memory(measure, device)
            return
        except BackendError:
            raise
        except (NotEnoughMemory, UnequalOutputs) as error:
            self.exclude(names, str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.exclude(names, failure(error))
        with suppress(RuntimeError):  # after some errors of CUDA, every further call of it fails
            release(device)

    def observer(self, name: str, device: torch.device) -> Callable[[], None]:
        """Return a function to call during a work, which notes the device's state under the work's name."""

        def note() -> None:
            self.conditions[f"during_{name}"] = read_conditions(device)

        return note

    def begin(self, device: torch.device, protocol: EfficiencyProtocol) -> None:
        """Note the device's state and its rate in a large matrix product of the protocol's precision."""
        self.conditions["before"] = read_conditions(device)
        rate = matrix_product_rate(device, protocol.precision, seconds=min(1.0, protocol.seconds))
        self.conditions["matrix_product_gmacs_per_second"] = round(rate / 1e9, 2)

    def utilisation(self, of: str, gmacs_per_image: float, kind: Literal["utilisation", "mfu"] = "utilisation") -> None:
        """Add the share of the matrix product's rate that a value in images per second reaches.

        Of all multiply-accumulates, those of recomputation included, it is the hardware's utilisation (HFU); of the
        model's alone, MFU.
        """
        if of in self.values:
            rate = self.conditions["matrix_product_gmacs_per_second"]
            name = of.removesuffix("_images_per_second")
            self.values[f"{name}_{kind}"] = Value(value=self.values[of].value * gmacs_per_image / rate, n=1)

    def end(self, device: torch.device) -> Profile:
        """Note the device's state and the values whose repeats disagree. Returns the profile."""
        self.conditions["after"] = read_conditions(device)
        self.remarks += disagreements(self.values)
        return self


# --- conditions of a measurement ---


def read_conditions(device: torch.device) -> dict[str, float]:
    """Read clocks (MHz), temperature (°C) and power (W) of a GPU; clock, temperature and load of a CPU."""
    return _conditions_of_cuda(device) if device.type == "cuda" else _conditions_of_cpu()


def _conditions_of_cuda(device: torch.device) -> dict[str, float]:
    import pynvml

    return read_nvml(pynvml, str(torch.cuda.get_device_properties(device).uuid))


def read_nvml(nvml: ModuleType, uuid: str) -> dict[str, float]:
    """Read a GPU by the module ``pynvml``; readings that the device or its driver lacks are left out."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return {}
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        readings = {
            "clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "largest_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "power_limit_watts": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            # A mask of NVML's nvmlClocksEventReason… (4: at the power limit, 32 and 64: too hot); 0 at full clock.
            "clock_limits": lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        }
        found = {}
        for name, read in readings.items():
            with suppress(nvml.NVMLError):
                found[name] = float(read())
        return found
    except nvml.NVMLError:
        return {}
    finally:
        nvml.nvmlShutdown()


def _conditions_of_cpu() -> dict[str, float]:
    found = {"load": round(os.getloadavg()[0], 2)}
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    if clocks:
        found["clock_mhz"] = round(mean(clocks), 1)
    zones = [path for path in Path("/sys/class/thermal").glob("thermal_zone*/temp") if path.is_file()]
    temperatures = []
    for path in zones:
        try:
            temperatures.append(int(path.read_text(encoding="utf-8")) / 1000)
        except (OSError, ValueError):
            continue
    if temperatures:
        found["temperature_celsius"] = max(temperatures)
    return found
