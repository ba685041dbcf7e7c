# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and size of a diffusion model at the latent shape of an autoencoder (Tables 3, 4 and 5 of the paper).

As the paper measures it: the denoiser alone, one conditional forward pass, random latents on the device; no guidance,
no autoencoder, no text encoder, no data loading. Images per second are therefore denoiser passes per second; module
``end_to_end`` measures the whole pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import DiffusionEntry, EfficiencyProtocol
from dcae.benchmark.record import Value
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.models.build import build_denoiser
from evaluation.efficiency.backends import ready
from evaluation.efficiency.batch_sizes import largest_batch_size, run_at_largest, training_memory
from evaluation.efficiency.cost import count_macs, count_parameters
from evaluation.efficiency.memory import (
    Peaks,
    Result,
    fake_tensors,
    materialise,
    memory_values,
    peak_of,
    require_memory,
    training_peaks,
)
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.timing import DTYPES, milliseconds, throughput, time_of
from evaluation.efficiency.training import Training

MEMORY = ("peak_memory_gb", "peak_memory_gib")
VALUES = (*MEMORY, "training_images_per_second", "inference_images_per_second", "latency_ms")  # that may be excluded
MIDDLE_TIMESTEP = 500


class OnTensors(nn.Module):
    """A denoiser whose every input is a tensor, as exported models have them."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, latents: Tensor, timesteps: Tensor, *condition: Tensor) -> Tensor:
        """Latents [B, c, h, w], timesteps [B], then labels [B] or captions [B, T, C] and their mask [B, T]."""
        return self.denoiser(latents, timesteps, Captions(*condition) if len(condition) > 1 else condition[0])


@dataclass(frozen=True)
class DenoiserShape:
    """A diffusion model at a latent shape [latent_channels, latent_size, latent_size]; ``classes`` of the data."""

    entry: DiffusionEntry
    latent_channels: int
    latent_size: int
    patch_size: int
    classes: int

    @property
    def side(self) -> int:
        """Side of the square of tokens."""
        return self.latent_size // self.patch_size

    def build(self, device: torch.device, protocol: EfficiencyProtocol) -> OnTensors:
        """Build the model with the authors' weights of standard deviation 0.02; DiT's own start with outputs of 0."""
        with device:
            denoiser = build_denoiser(self.entry, self.latent_channels, self.latent_size, self.patch_size, self.classes)
        if device.type != "meta":
            for parameter in denoiser.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)
        denoiser.gradient_checkpointing = protocol.activation_checkpointing
        denoiser.tokens_follow_autocast = protocol.token_precision == "autocast"
        return OnTensors(denoiser)

    def inputs(self, batch_size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """Return random latents, a timestep, and labels or embedded captions."""
        with device:
            latents = torch.randn(batch_size, self.latent_channels, self.latent_size, self.latent_size, dtype=dtype)
            timesteps = torch.full((batch_size,), MIDDLE_TIMESTEP)
            if self.entry.conditioning != "caption":
                return latents, timesteps, torch.zeros(batch_size, dtype=torch.long)
            tokens, channels = self.entry.text_encoder.tokens, self.entry.caption_channels
            mask = torch.ones(batch_size, tokens, dtype=torch.bool)
            return latents, timesteps, torch.randn(batch_size, tokens, channels, dtype=dtype), mask


def for_inference(shape: DenoiserShape, protocol: EfficiencyProtocol, device: torch.device) -> OnTensors:
    """Build the denoiser in evaluation mode, its weights in the protocol's precision."""
    return shape.build(device, protocol).to(DTYPES[protocol.precision]).eval().requires_grad_(False)


def inference_inputs(
    shape: DenoiserShape, batch_size: int, protocol: EfficiencyProtocol, device: torch.device
) -> tuple[Tensor, ...]:
    """Return inputs in the protocol's precision."""
    return shape.inputs(batch_size, device, DTYPES[protocol.precision])


# --- memory and batch sizes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryEstimator:
    """Estimates the memory that a denoiser needs at a batch size."""

    shape: DenoiserShape
    protocol: EfficiencyProtocol
    device: torch.device

    def training(self, batch_size: int) -> Peaks:
        """Return the peaks of eager training, which compiled training does not exceed."""
        build = self._builder(torch.float32)

        def make() -> Training:
            return Training(build(), self.shape.inputs(batch_size, self.device), self.protocol, compiled=False)

        with fake_tensors(self.device):
            return training_peaks(make, self.device)

    def inference(self, batch_size: int) -> int:
        """Return the peak of an eager forward pass, weights included."""
        dtype = DTYPES[self.protocol.precision]
        build = self._builder(dtype)

        def make() -> Callable[[], object]:
            module = build().eval()
            inputs = self.shape.inputs(batch_size, self.device, dtype)
            return torch.no_grad()(lambda: module(*inputs))

        with fake_tensors(self.device):
            return peak_of(make, self.device)

    def _builder(self, dtype: torch.dtype) -> Callable[[], nn.Module]:
        """Return a function that makes the model within a measurement; for a CPU, its shapes are built before."""
        if self.device.type != "cpu":
            return lambda: self.shape.build(self.device, self.protocol).to(dtype)
        shapes = self.shape.build(torch.device("meta"), self.protocol).to(dtype)
        return lambda: materialise(shapes, self.device)

    def protocols_batch_size(self, work: str) -> int | Literal["largest"]:
        """Return the protocol's batch size; raises ``ValueError`` if its table has none for this model."""
        return self.protocol.batch_size(work, self.shape.entry.paper_name or self.shape.entry.name, self.shape.side)

    def run(self, work: str, run: Callable[[int], Result]) -> tuple[int, Result]:
        """Run at the protocol's batch size or the largest that fits. Returns the size and the run's result."""
        size = self.protocols_batch_size(work)
        if size != "largest":
            return size, run(size)
        need = (lambda size: self.training(size).all) if work == "training" else self.inference
        largest = largest_batch_size(need, self.device, self.protocol.largest_batch_size)
        return run_at_largest(run, largest, self.device)

    def values(self, profile: Profile) -> None:
        """Add the memory of training at the protocol's batch size for it."""
        size = profile.conditions["memory_batch_size"] = self.protocol.memory_batch_size

        def measure() -> dict[str, Value]:
            count, how = training_memory(self.training, size, self.device)
            if how:
                profile.remarks.append(f"peak_memory at batch size {size}: {how}")
            return memory_values("peak_memory", count, extrapolated=bool(how))

        profile.attempt(MEMORY, measure, self.device)


# --- the whole ------------------------------------------------------------------------------------------------------


def profile_denoiser(
    shape: DenoiserShape, protocol: EfficiencyProtocol, device: str | torch.device = "cpu", memory: bool = True
) -> Profile:
    """Measure a diffusion model with random weights on random latents.

    Args:
        shape: the model and its latents.
        protocol: batch sizes, precision, backends and measuring time.
        device: ``cpu`` or ``cuda``; CPU speed is that of as many threads as torch has now.
        memory: measure the memory of training as well; on a CPU counting it takes longer than all else.

    Returns:
        ``parameters``, ``gmacs`` (per image), ``peak_memory_gb`` and ``peak_memory_gib`` (of training),
        ``training_images_per_second``, ``inference_images_per_second``, ``latency_ms``, and the ``…_utilisation`` of a
        large matrix product's rate by both. Times are medians over steps; ``n`` is the number of steps.
        ``training_utilisation`` is HFU, which counts a training as three forward passes, with activation checkpointing
        as four; ``training_mfu`` always counts three.

    Raises:
        BackendError: a backend is not installed or does not support the precision.
        ValueError: the protocol's table has no batch size for this model.
    """
    device = torch.device(device)
    meta = torch.device("meta")
    model = shape.build(meta, protocol)
    gmacs = count_macs(model, *shape.inputs(1, meta)) / 1e9
    profile = Profile()
    profile.values["parameters"] = Value(value=count_parameters(model), n=1)
    profile.values["gmacs"] = Value(value=gmacs, n=1, unit="GMAC")
    needs = MemoryEstimator(shape, protocol, device)
    for work in ("training", "inference"):
        needs.protocols_batch_size(work)  # before anything is measured
    profile.begin(device, protocol)
    if memory:
        needs.values(profile)

    def train(size: int) -> Value:
        if size > protocol.memory_batch_size and "peak_memory_gb" in profile.values:
            require_memory(1e9 * profile.values["peak_memory_gb"].value * size / protocol.memory_batch_size, device)
        compiled = protocol.training_backend == "compile"
        step = Training(shape.build(device, protocol), shape.inputs(size, device), protocol, compiled)
        duration = time_of(step, device, protocol, profile.observer("training", device))
        if not step.is_finite():
            profile.remarks.append("training: weights became infinite or no numbers, which may change its speed")
        return duration

    def infer(size: int) -> Value:
        module = for_inference(shape, protocol, device)
        call = ready(protocol.inference_backend, module, inference_inputs(shape, size, protocol, device))
        return time_of(call, device, protocol, profile.observer("inference", device))

    def training() -> dict[str, Value]:
        size, duration = needs.run("training", train)
        profile.conditions["training_batch_size"] = size
        return {"training_images_per_second": throughput(duration, size)}

    def inference() -> dict[str, Value]:
        size, duration = needs.run("inference", infer)
        profile.conditions["inference_batch_size"] = size
        return {"inference_images_per_second": throughput(duration, size)}

    def latency() -> dict[str, Value]:
        size = profile.conditions["latency_batch_size"] = protocol.latency_batch_size
        return {"latency_ms": milliseconds(infer(size))}

    profile.attempt("training_images_per_second", training, device)
    profile.attempt("inference_images_per_second", inference, device)
    profile.attempt("latency_ms", latency, device)
    profile.utilisation("training_images_per_second", gmacs * (4 if protocol.activation_checkpointing else 3))
    profile.utilisation("training_images_per_second", 3 * gmacs, "mfu")
    profile.utilisation("inference_images_per_second", gmacs)
    return profile.end(device)
