# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and size of an autoencoder, encoding and decoding; peak memory of its training phases (section 3.2).

The denoiser's numbers leave the autoencoder out: encoding an image of 512 px with DC-AE-f32 costs as many
multiply-accumulates as eight passes of DiT-XL on its latents, and decoding as many as eleven.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcae.autoencoders.loading import load
from dcae.autoencoders.tiling import Tiled
from dcae.benchmark.config import Config
from dcae.benchmark.entries import AutoencoderFields, EfficiencyProtocol
from dcae.benchmark.record import Value
from dcae.training.layers import freeze_all_but
from dcae.weights.catalogue import WeightsError
from evaluation.efficiency.backends import ready
from evaluation.efficiency.batch_sizes import training_memory
from evaluation.efficiency.cost import describe_autoencoder
from evaluation.efficiency.memory import (
    NotEnoughMemory,
    Peaks,
    catch_out_of_memory,
    fake_tensors,
    materialise,
    memory_values,
    peak_of,
    require_memory,
    training_peaks,
)
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.timing import DTYPES, milliseconds, throughput, time_of
from evaluation.efficiency.training import Training, autocast

CODERS = ("encode", "decode")
VALUES = tuple(
    f"{method}_{name}"
    for method in CODERS
    for name in ("peak_memory_gb", "peak_memory_gib", "images_per_second", "latency_ms")
)
PEAKS = {"all": "full_training_peak", "middle": "middle_training_peak"}
VALUES_OF_PHASES = tuple(f"{name}_{unit}" for name in PEAKS.values() for unit in ("gb", "gib"))


class Coder(nn.Module):
    """One half of an autoencoder, ``encode`` or ``decode``, as a module."""

    def __init__(self, autoencoder: nn.Module, method: str):
        super().__init__()
        self.autoencoder, self.method = autoencoder, method

    def forward(self, values: Tensor) -> Tensor:
        return getattr(self.autoencoder, self.method)(values)


def shapes_only(entry: AutoencoderFields, architecture: dict[str, Any] | None = None) -> AutoencoderFields:
    """Return an entry without its released weights.

    Args:
        entry: of any kind.
        architecture: ``config`` of an entry that has none but released weights.

    Raises:
        WeightsError: there is neither.
    """
    if getattr(entry, "pretrained", None) is None:
        return entry
    config = {"config": architecture} if architecture else {}
    if entry.kind == "diffusers" and not (architecture or entry.config):
        raise WeightsError(f"autoencoder {entry.name} is known by its released weights only: give its architecture")
    return entry.model_copy(update={"pretrained": None, **config})


def for_inference(
    entry: AutoencoderFields, protocol: EfficiencyProtocol, device: str | torch.device, config: Config | None
) -> nn.Module:
    """Build the autoencoder, its weights frozen, in the protocol's precision and channels-last."""
    autoencoder = load(entry, config=config, device=device, untrained=True)
    return autoencoder.to(dtype=DTYPES[protocol.precision], memory_format=torch.channels_last).requires_grad_(False)


def batch_size_for(resolution: int, protocol: EfficiencyProtocol) -> int:
    """Return the images in a batch at a resolution (pixels per side)."""
    return max(1, protocol.autoencoder_pixels // resolution**2)


def bytes_of(module: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(each.nbytes for each in (*module.parameters(), *module.buffers()))


def random_input(method: str, entry: AutoencoderFields, resolution: int, batch_size: int, **like: Any) -> Tensor:
    """Return images in [-1, 1] or latents of unit variance, channels-last."""
    if method == "encode":
        values = torch.rand(batch_size, 3, resolution, resolution, **like) * 2 - 1
    else:
        side = resolution // entry.spatial_compression
        values = torch.randn(batch_size, entry.latent_channels, side, side, **like)
    return values.contiguous(memory_format=torch.channels_last)


def profile_autoencoder(
    entry: AutoencoderFields,
    resolution: int,
    protocol: EfficiencyProtocol,
    device: str | torch.device = "cpu",
    config: Config | None = None,
) -> Profile:
    """Measure an autoencoder's two halves on random images and latents, weights in the protocol's precision.

    Weights and inputs are channels-last, the fastest layout for the convolutions of every autoencoder.

    Args:
        entry: with random weights if it names no released ones (``shapes_only``).
        resolution: side of the images in pixels.
        protocol: precision, backend, pixels in a batch, tiling and measuring time.
        device: ``cpu`` or ``cuda``.
        config: where an entry that this one is built on is looked up.

    Returns:
        ``parameters``, ``encoder_parameters``, ``decoder_parameters``; and with the prefixes ``encode_`` and
        ``decode_``: ``gmacs`` (per image), ``images_per_second``, ``latency_ms`` (one image), ``utilisation``, and
        ``peak_memory_gb`` and ``…_gib`` at the batch size of the throughput. What does not fit is measured in tiles if
        the protocol has ``tiling``, which the remarks say.

    Raises:
        BackendError: a backend is not installed or does not support the precision.
        ConfigError: the entry's compression does not divide the resolution.
    """
    device = torch.device(device)
    described = describe_autoencoder(entry, resolution, config)
    profile = Profile()
    for name in ("parameters", "encoder_parameters", "decoder_parameters"):
        profile.values[name] = Value(value=described[name], n=1)
    for method in CODERS:
        profile.values[f"{method}_gmacs"] = Value(value=described[f"{method}_gmacs"], n=1, unit="GMAC")
    profile.begin(device, protocol)
    autoencoder = for_inference(entry, protocol, device, config)
    for method in CODERS:
        _profile_coder(profile, autoencoder, method, entry, resolution, protocol, device, config)
    return profile.end(device)


def _profile_coder(
    profile: Profile,
    autoencoder: nn.Module,
    method: str,
    entry: AutoencoderFields,
    resolution: int,
    protocol: EfficiencyProtocol,
    device: torch.device,
    config: Config | None,
) -> None:
    like = {"device": device, "dtype": DTYPES[protocol.precision]}
    size = batch_size_for(resolution, protocol)

    def memory_of(model: nn.Module, tiled: bool = False) -> dict[str, Value]:
        counted = device.type == "cpu"
        if counted:
            shapes = for_inference(entry, protocol, "meta", config)
            model = Tiled(shapes, protocol.tiling) if tiled else shapes
        with fake_tensors(device):
            model = materialise(model, device) if counted else model
            values = random_input(method, entry, resolution, size, **like)

            def make() -> Callable[[], Tensor]:
                return torch.no_grad()(lambda: getattr(model, method)(values))

            with torch.compiler.set_stance("force_eager"):  # whatever was compiled for speed before
                peak = catch_out_of_memory(partial(peak_of, make, device), device)
            count = bytes_of(model) + values.nbytes + peak
        require_memory(count, device)
        return memory_values(f"{method}_peak_memory", count)

    def memory() -> dict[str, Value]:
        nonlocal autoencoder
        try:
            return memory_of(autoencoder)
        except NotEnoughMemory as error:
            if not protocol.tiling or resolution <= protocol.tiling.tile:
                raise
            tile, overlap = protocol.tiling.tile, protocol.tiling.overlap
            profile.remarks.append(f"{method}: in tiles of {tile} px that overlap by {overlap}; whole, it {error}")
            autoencoder = Tiled(autoencoder, protocol.tiling)
            return memory_of(autoencoder, tiled=True)

    def duration(batch_size: int) -> Value:
        values = random_input(method, entry, resolution, batch_size, **like)
        call = ready(protocol.inference_backend, Coder(autoencoder, method), [values])
        return time_of(call, device, protocol, profile.observer(method, device))

    def speed() -> dict[str, Value]:
        profile.conditions[f"{method}_batch_size"] = size
        of_batch = duration(size)
        values = {f"{method}_images_per_second": throughput(of_batch, size)}
        return values | ({f"{method}_latency_ms": milliseconds(of_batch)} if size == 1 else {})

    def latency() -> dict[str, Value]:
        return {f"{method}_latency_ms": milliseconds(duration(1))}

    profile.attempt((f"{method}_peak_memory_gb", f"{method}_peak_memory_gib"), memory, device)
    profile.attempt(f"{method}_images_per_second", speed, device)
    if f"{method}_latency_ms" not in profile.values:
        profile.attempt(f"{method}_latency_ms", latency, device)
    profile.utilisation(f"{method}_images_per_second", profile.values[f"{method}_gmacs"].value)


# --- phases of training ---------------------------------------------------------------------------------------------


class PhaseTraining(Training):
    """Training on the mean absolute error of reconstruction."""

    def loss(self) -> Tensor:
        with autocast(self.protocol, self.device):
            reconstructions = self.module(*self.inputs)
        return (reconstructions.float() - self.inputs[0]).abs().mean()


def profile_phases(
    entry: AutoencoderFields,
    resolution: int,
    protocol: EfficiencyProtocol,
    device: str | torch.device = "cpu",
    config: Config | None = None,
) -> Profile:
    """Measure the peak memory of training all layers, and of training the middle ones alone as phase 2 does.

    Both with the reconstruction loss alone; the paper's numbers are at 1024 px and batch 12, of losses that it does not
    state.
    At a batch size that does not fit, the peak is extrapolated from smaller ones, which the remarks say.

    Args:
        entry, resolution, device, config: as of ``profile_autoencoder``.
        protocol: its precision, and the batch size of its phases.

    Returns:
        ``full_training_peak_gb``, ``middle_training_peak_gb`` (and ``…_gib``), and ``full_to_middle``, their ratio.
    """
    device = torch.device(device)
    profile = Profile()
    profile.conditions["phase_batch_size"] = protocol.phase_batch_size

    def peaks(trains: str, batch_size: int) -> Peaks:
        counted = device.type == "cpu"
        autoencoder = load(entry, config=config, device="meta" if counted else device, untrained=True)
        freeze_all_but(autoencoder, trains)
        with fake_tensors(device):
            autoencoder = materialise(autoencoder, device) if counted else autoencoder
            images = random_input("encode", entry, resolution, batch_size, device=device)
            found = training_peaks(lambda: PhaseTraining(autoencoder, [images], protocol, compiled=False), device)
            fixed = bytes_of(autoencoder) + images.nbytes
            return Peaks(fixed + found.forward_backward, fixed + found.update)

    def peak(trains: str) -> dict[str, Value]:
        size = protocol.phase_batch_size
        count, how = training_memory(partial(peaks, trains), size, device)
        if how:
            profile.remarks.append(f"{PEAKS[trains]} at batch size {size}: {how}")
        return memory_values(PEAKS[trains], count, extrapolated=bool(how))

    for trains, name in PEAKS.items():
        profile.attempt((f"{name}_gb", f"{name}_gib"), lambda trains=trains: peak(trains), device)
    full, middle = (profile.values.get(f"{trains}_training_peak_gb") for trains in ("full", "middle"))
    if full and middle:
        profile.values["full_to_middle"] = Value(value=full.value / middle.value, n=1)
    return profile.end(device)
