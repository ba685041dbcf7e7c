# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a training and of other calls; running out of memory is a result and does not end the run.

On CUDA a peak is that of PyTorch's allocator, as the paper reports it; on a CPU that of all tensors that are alive at
once, which is the same but for the inner workspace of operators. (The process's own peak would include libraries and
hide whatever fits into memory that an earlier step has left.) On a CPU the tensors have shapes but no values, so that a
peak is counted exactly without that much memory or time.
"""

from __future__ import annotations

import gc
import os
import re
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from dcae.benchmark.record import Value

# How PyTorch and the libraries beneath it say that memory has ended, where they raise no class of its own for it.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|_ALLOC_FAILED|Failed to allocate memory for requested buffer", re.IGNORECASE
)
GIB = 1024**3

Result = TypeVar("Result")


class NotEnoughMemory(RuntimeError):
    """Something needs more memory than there is; the message says how much there is."""


class BackendError(RuntimeError):
    """A backend is not installed or does not support the precision; affects every row. The message says what to do."""


class UnequalOutputs(RuntimeError):
    """An optimised model computes other outputs than the eager one, so its speed does not count."""


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> int:
    """Return the bytes of free memory, after giving back unreferenced memory."""
    release(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    information = Path("/proc/meminfo")
    text = information.read_text(encoding="utf-8") if information.exists() else ""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    return 1024 * int(found[1]) if found else total_memory(device)


def release(device: torch.device) -> None:
    """Give back unreferenced memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def catch_out_of_memory(call: Callable[[], Result], device: torch.device) -> Result:
    """Return the result of a call.

    Raises:
        NotEnoughMemory: the device ran out of memory. The memory of the call is given back.
    """
    try:
        return call()
    except Exception as error:  # ONNX Runtime's are no RuntimeError
        if not is_out_of_memory(error):
            raise
    release(device)  # only here: until the handler ends, the error keeps the call's tensors alive
    raise NotEnoughMemory(f"needs more than {total_memory(device) / GIB:.1f} GiB")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, means out of memory.

    A CUDA graph whose capture memory cuts short may end with an error of its own that hides the first.
    """
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def require_memory(needed: float, device: torch.device) -> None:
    """Raise ``NotEnoughMemory`` if less is free on a CPU, where the system would end the process without an error."""
    if device.type == "cpu" and needed > free_memory(device):
        raise NotEnoughMemory(
            f"needs about {needed / GIB:.1f} GiB, more than the {free_memory(device) / GIB:.1f} GiB that are free"
        )


# --- peaks ----------------------------------------------------------------------------------------------------------


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make inside this context, and the peak of bytes alive at once."""

    def __init__(self):
        super().__init__()
        self.bytes = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        results = operator(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._count(result.untyped_storage())
        return results

    def restart(self) -> None:
        """Restart the peak at the bytes alive now."""
        self.peak = self.bytes

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:  # a view, or the target of an operator in place
            self._known[storage] = None
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, count: int) -> None:
        self.bytes -= count


class AllocatedOnCuda:
    """The same from PyTorch's CUDA allocator, for tensors made inside this context."""

    def __init__(self, device: torch.device):
        self._device = device

    def __enter__(self) -> AllocatedOnCuda:
        release(self._device)
        self._before = torch.cuda.memory_allocated(self._device)
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restart(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) - self._before


def fake_tensors(device: torch.device) -> AbstractContextManager:
    """Return a context in which CPU tensors have shapes but no values; does nothing for other devices."""
    return FakeTensorMode() if device.type == "cpu" else nullcontext()


def materialise(shapes: nn.Module, device: torch.device) -> nn.Module:
    """Give a module on the meta device memory in the current context; its values are undefined."""
    for module in shapes.modules():
        for name, each in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_like(each, device), each.requires_grad))
        for name, each in module.named_buffers(recurse=False):
            setattr(module, name, _like(each, device))
    return shapes


def _like(shape: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype, device=device)


def meter(device: torch.device) -> LiveTensors | AllocatedOnCuda:
    """Return a context that measures the peak of the tensors made inside it."""
    return AllocatedOnCuda(device) if device.type == "cuda" else LiveTensors()


def peak_of(make_step: Callable[[], Callable[[], object]], device: torch.device) -> int:
    """Return the peak bytes of making a step and calling it once."""
    with meter(device) as memory:
        step = make_step()
        step()
        return memory.peak


class TrainingStep(Protocol):
    """A step of a training in its two halves."""

    def forward_backward(self) -> None: ...

    def update(self) -> None: ...


@dataclass(frozen=True)
class Peaks:
    """Peak bytes of a training step: in the forward and backward pass, and in the optimiser's update.

    Both count weights, gradients and the optimiser's state. The second hardly depends on the batch size.
    """

    forward_backward: int
    update: int

    @property
    def all(self) -> int:
        return max(self.forward_backward, self.update)


def training_peaks(make: Callable[[], TrainingStep], device: torch.device) -> Peaks:
    """Return the peaks of the second step; the optimiser's state is made at the end of the first."""
    with meter(device) as memory:
        training = make()
        training.forward_backward()
        training.update()
        memory.restart()
        training.forward_backward()
        forward_backward = memory.peak
        memory.restart()
        training.update()
        return Peaks(forward_backward, memory.peak)


def memory_values(name: str, count: float, extrapolated: bool = False) -> dict[str, Value]:
    """Return bytes in GB (1e9) and GiB (2**30), since the paper prints GiB under the name GB."""
    return {
        f"{name}_gb": Value(value=count / 1e9, n=1, unit="GB", extrapolated=extrapolated),
        f"{name}_gib": Value(value=count / GIB, n=1, unit="GiB", extrapolated=extrapolated),
    }
