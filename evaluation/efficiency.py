# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and size of a diffusion model at the latent shape of an autoencoder (Table 3 of the paper).

As the paper measures it: the denoiser alone, one conditional forward pass, random latents on the device; no guidance,
no autoencoder, no data loading. Images per second are therefore denoiser passes per second. Unlike the paper, inference
is eager PyTorch rather than TensorRT: compare ratios, not absolute numbers.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from dcae.benchmark.entries import DiffusionEntry, EfficiencyProtocol
from dcae.benchmark.record import Value
from dcae.diffusion import build_denoiser
from evaluation.cost import count_macs, count_parameters

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FEWEST_STEPS = 3

Step = Callable[[], None]
Inputs = Callable[[int, torch.device], tuple[Tensor, Tensor, Tensor]]  # batch size, device: latents, timesteps, labels


def profile_denoiser(
    entry: DiffusionEntry,
    latent_channels: int,
    latent_size: int,
    patch_size: int,
    protocol: EfficiencyProtocol,
    device: str | torch.device = "cpu",
    classes: int = 1000,
) -> dict[str, Value]:
    """Measure a diffusion model with random weights on latents [B, latent_channels, latent_size, latent_size].

    Args:
        entry: the model.
        latent_channels: c of the autoencoder.
        latent_size: side of the latents.
        patch_size: of the model.
        protocol: batch sizes, precision and measuring time.
        device: ``cpu`` or ``cuda``; CPU speed is that of as many threads as torch has now.
        classes: of the label embedding, which counts as parameters.

    Returns:
        ``parameters``, ``gmacs`` (per image), ``peak_memory_gb`` and ``peak_memory_gib`` (of training),
        ``training_images_per_second``, ``inference_images_per_second``, ``latency_ms``. Times are medians over steps;
        ``n`` is the number of steps.
    """
    device = torch.device(device)

    def build() -> nn.Module:
        denoiser = build_denoiser(entry, latent_channels, latent_size, patch_size, classes)
        denoiser.activation_checkpointing = protocol.activation_checkpointing
        return denoiser

    def inputs(batch_size: int, on: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        latents = torch.randn(batch_size, latent_channels, latent_size, latent_size, device=on)
        return latents, torch.full((batch_size,), 500, device=on), torch.zeros(batch_size, dtype=torch.long, device=on)

    with torch.device("meta"):
        shapes = build()
    values = {
        "parameters": Value(value=count_parameters(shapes), n=1),
        "gmacs": Value(value=count_macs(shapes, *inputs(1, torch.device("meta"))) / 1e9, n=1, unit="GMAC"),
    }
    values |= _peak_memory(
        lambda: _training_step(build().to(device), inputs, protocol.memory_batch_size, protocol), device
    )
    training = _training_step(build().to(device), inputs, protocol.training_batch_size, protocol)
    values["training_images_per_second"] = _throughput(training, protocol.training_batch_size, protocol, device)
    del training
    denoiser = build().to(device, DTYPES[protocol.precision]).eval()
    inference = _inference_step(denoiser, inputs, protocol.inference_batch_size, protocol)
    values["inference_images_per_second"] = _throughput(inference, protocol.inference_batch_size, protocol, device)
    latency = median_time(_inference_step(denoiser, inputs, protocol.latency_batch_size, protocol), protocol, device)
    values["latency_ms"] = _scaled(latency, 1000, "ms")
    return values


# --- what is timed --------------------------------------------------------------------------------------------------


def _training_step(denoiser: nn.Module, inputs: Inputs, batch_size: int, protocol: EfficiencyProtocol) -> Step:
    """Forward, backward and AdamW on one batch; float32 weights, the forward pass in the protocol's precision."""
    device = next(denoiser.parameters()).device
    batch = inputs(batch_size, device)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-4)
    denoiser.train()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with _autocast(protocol, device):
            prediction = denoiser(*batch)
        prediction.float().square().mean().backward()
        optimiser.step()

    return step


def _inference_step(denoiser: nn.Module, inputs: Inputs, batch_size: int, protocol: EfficiencyProtocol) -> Step:
    """One forward pass; the weights have the protocol's precision themselves."""
    latents, timesteps, labels = inputs(batch_size, next(denoiser.parameters()).device)
    latents = latents.to(DTYPES[protocol.precision])

    @torch.inference_mode()
    def step() -> None:
        denoiser(latents, timesteps, labels)

    return step


def _autocast(protocol: EfficiencyProtocol, device: torch.device) -> AbstractContextManager:
    if protocol.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[protocol.precision])


# --- how it is timed ------------------------------------------------------------------------------------------------


def median_time(step: Step, protocol: EfficiencyProtocol, device: torch.device) -> Value:
    """Median duration of a step in seconds, after warm-up, over as many steps as fit into the protocol's time.

    Each step is timed to its end on the device. The standard error is that of a median, with the spread taken from the
    quartiles, since a busy machine makes outliers.
    """
    for _ in range(protocol.warmup_steps):
        step()
    durations: list[float] = []
    finish(device)
    stop = time.perf_counter() + protocol.seconds
    while len(durations) < FEWEST_STEPS or time.perf_counter() < stop:
        start = time.perf_counter()
        step()
        finish(device)
        durations.append(time.perf_counter() - start)
    lower, median, upper = torch.tensor(durations, dtype=torch.float64).quantile(
        torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    )
    deviation = float(upper - lower) / 1.349  # quartiles of a normal distribution
    error = math.sqrt(math.pi / 2) * deviation / math.sqrt(len(durations))
    return Value(value=float(median), n=len(durations), standard_error=error, unit="s")


def finish(device: torch.device) -> None:
    """Wait until the device has done all its work; a CPU has when a call returns."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _throughput(step: Step, batch_size: int, protocol: EfficiencyProtocol, device: torch.device) -> Value:
    duration = median_time(step, protocol, device)
    rate = batch_size / duration.value
    error = rate * duration.standard_error / duration.value
    return Value(value=rate, n=duration.n, standard_error=error, unit="images/s")


def _scaled(value: Value, factor: float, unit: str) -> Value:
    return value.model_copy(
        update={"value": value.value * factor, "standard_error": value.standard_error * factor, "unit": unit}
    )


# --- memory ---------------------------------------------------------------------------------------------------------


def _peak_memory(make_step: Callable[[], Step], device: torch.device) -> dict[str, Value]:
    """Peak memory of training: weights, gradients, optimiser state and activations.

    On CUDA it is the peak of PyTorch's allocator, as the paper reports it; on a CPU the peak of all tensors that are
    alive at once, which is the same but for the inner workspace of operators. (The process's own peak would include
    libraries and hide whatever fits into memory that an earlier step has left.) The paper prints GiB under the name GB,
    so both are given.
    """
    peak = (_cuda_peak if device.type == "cuda" else _live_tensors_peak)(make_step, device)
    return {
        "peak_memory_gb": Value(value=peak / 1e9, n=1, unit="GB"),
        "peak_memory_gib": Value(value=peak / 1024**3, n=1, unit="GiB"),
    }


def _two_steps(make_step: Callable[[], Step]) -> None:
    """The optimiser's state appears at the end of the first step, so the second one is the fullest."""
    step = make_step()
    step()
    step()


def _cuda_peak(make_step: Callable[[], Step], device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    _two_steps(make_step)
    return torch.cuda.max_memory_allocated(device) - before


def _live_tensors_peak(make_step: Callable[[], Step], device: torch.device) -> int:
    with LiveTensors() as tensors:
        _two_steps(make_step)
    return tensors.peak


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

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:  # a view, or the target of an operator in place
            self._known[storage] = None
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, count: int) -> None:
        self.bytes -= count
