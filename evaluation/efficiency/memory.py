# SPDX-License-Identifier: Apache-2.0
"""Peak memory, of a training and in general; and what happens where memory ends: a result, not the end of the run.

On CUDA a peak is that of PyTorch's allocator, as the paper reports it; on a CPU that of all tensors that are alive at
once, which is the same but for the inner workspace of operators. (The process's own peak would include libraries and
hide whatever fits into memory that an earlier step has left.) On a CPU the tensors have shapes but no values, so that a
peak is counted exactly without the memory, or the time, that it stands for.
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
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free, once what nothing refers to is given back."""
    release(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    information = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", information.read_text(), re.M) if information.exists() else None
    return 1024 * int(found[1]) if found else total_memory(device)


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def catch_out_of_memory(call: Callable[[], Result], device: torch.device) -> Result:
    """The result of a call.

    Raises:
        NotEnoughMemory: the device's memory ended. All that the call had made is given back.
    """
    try:
        return call()
    except Exception as error:  # ONNX Runtime's are no RuntimeError
        if not is_out_of_memory(error):
            raise
    release(device)  # only here: until the handler ends, the error keeps the call's tensors alive
    raise NotEnoughMemory(f"needs more than {total_memory(device) / GIB:.1f} GiB")


def is_out_of_memory(error: BaseException | None) -> bool:
    """True if an error, or one that it came from, is the end of memory.

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
    """Counts the bytes of the tensors that operators make inside it, and how many were alive at once at most."""

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
        """Let the peak be what is alive now."""
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
    """The same by PyTorch's CUDA allocator, for what is made inside it."""

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
    """A context in which tensors on a CPU are shapes alone; elsewhere it does nothing."""
    return FakeTensorMode() if device.type == "cpu" else nullcontext()


def materialise(shapes: nn.Module, device: torch.device) -> nn.Module:
    """A module on the meta device, given memory in the context at hand; values are whatever they are."""
    for module in shapes.modules():
        for name, each in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_like(each, device), each.requires_grad))
        for name, each in module.named_buffers(recurse=False):
            setattr(module, name, _like(each, device))
    return shapes


def _like(shape: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype, device=device)


def meter(device: torch.device) -> LiveTensors | AllocatedOnCuda:
    """A context that knows the peak of what is made inside it."""
    return AllocatedOnCuda(device) if device.type == "cuda" else LiveTensors()


def peak_of(make_step: Callable[[], Callable[[], object]], device: torch.device) -> int:
    """Peak bytes of making a step and of calling it once."""
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
    """Of a training step: bytes at most in the forward and backward pass, and in the optimiser's update.

    Both count weights, gradients and the optimiser's state. The second hardly depends on the batch size.
    """

    forward_backward: int
    update: int

    @property
    def all(self) -> int:
        return max(self.forward_backward, self.update)


def training_peaks(make: Callable[[], TrainingStep], device: torch.device) -> Peaks:
    """Of the second step: the optimiser's state appears at the end of the first."""
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
    """Bytes in GB (1e9) and GiB (2**30); the paper prints GiB under the name GB, so both are given."""
    return {
        f"{name}_gb": Value(value=count / 1e9, n=1, unit="GB", extrapolated=extrapolated),
        f"{name}_gib": Value(value=count / GIB, n=1, unit="GiB", extrapolated=extrapolated),
    }
