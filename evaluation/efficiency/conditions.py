# SPDX-License-Identifier: Apache-2.0
"""What else decides a speed and can be read: clocks, temperature, load. What cannot be read is left out."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean

import torch


def read_conditions(device: torch.device) -> dict[str, float]:
    """Clocks in MHz, temperature in degrees Celsius, power in watts; of a CPU its clock and the load of the machine."""
    return _of_cuda(device) if device.type == "cuda" else _of_cpu()


def _of_cuda(device: torch.device) -> dict[str, float]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        read = {
            "clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "largest_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "power_watts": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "power_limit_watts": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            # A mask of NVML's nvmlClocksEventReason… (4: at the power limit, 32 and 64: too hot); 0 at full clock.
            "clock_limits": lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        }
        found = {}
        for name, function in read.items():
            try:
                found[name] = float(function())
            except pynvml.NVMLError:  # not every device tells everything, nor every driver
                continue
        return found
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()


def _of_cpu() -> dict[str, float]:
    found = {"load": round(os.getloadavg()[0], 2)}
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    if clocks:
        found["clock_mhz"] = round(mean(clocks), 1)
    zones = [path for path in Path("/sys/class/thermal").glob("thermal_zone*/temp") if path.is_file()]
    temperatures = []
    for path in zones:
        try:
            temperatures.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    if temperatures:
        found["temperature_celsius"] = max(temperatures)
    return found
