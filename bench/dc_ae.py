# SPDX-License-Identifier: Apache-2.0
"""``make bench``: DC-AE f32c32 of this project against diffusers' ``AutoencoderDC`` with the same weights, as ratios.

Each implementation runs in a process of its own, and the two take turns on the same machine. Memory is the peak during
the timed steps: of the process on a CPU, and of tensors on a GPU. With a GPU everything is measured there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.timing import (
    MOST_TURNS,
    Target,
    best_of_turns,
    in_a_new_process,
    peak_memory,
    restart_peak_memory,
    run_comparisons,
)
from dcae.autoencoders.dc_ae_config import config_of
from dcae.autoencoders.loading import load, save
from dcae.training.distributed import keep_freed_memory
from dcae.training.layers import freeze_all_but
from evaluation.efficiency.cost import bytes_kept_for_backward
from evaluation.efficiency.timing import DTYPES, best_time
from evaluation.published import read_published

Implementation = Literal["own", "diffusers"]

ENTRY = "dc-ae-f32c32"
ENTRY_OF_PHASES = "dc-ae-f64c128"
LARGEST_DIFFERENCE = {"fp32": 1e-4, "bf16": 3e-2}  # relative to the outputs' norm; bf16 has 8 bits
NO_MORE_MEMORY = Target(1, at_most=True)


@dataclass(frozen=True)
class Setting:
    """One comparison: precision, images, targets of the speed ratios, and seconds of timed calls in a turn.

    A call is timed once if it takes longer. Turns end when all targets are met.
    """

    precision: Literal["fp32", "bf16"]
    resolution: int
    batch_sizes: dict[str, int]
    targets: dict[str, Target]
    seconds: dict[str, float]
    turns: int = MOST_TURNS


SETTINGS = {
    "cpu": [
        # Few CPUs compute in bf16, and at 128 px `make bench` takes minutes.
        Setting(
            "fp32",
            128,
            {"forward": 1, "training": 1},
            {"forward": Target(1.1), "training": Target(1.1)},
            {"forward": 5, "training": 10},
        ),
    ],
    # Training on 16 images, diffusers needs 81 GiB by counting, and an H100 has not quite 80. Not measured so far; a
    # model of an H200, from counted operators and their bytes, gives 1.21 for the forward pass and 1.38 for training.
    "cuda": [
        Setting(
            "bf16",
            512,
            {"forward": 16, "training": 8},
            {"forward": Target(1.2), "training": Target(1.3)},
            {"forward": 3, "training": 5},
            turns=1,
        )
    ],
}


# --- one turn, in a process of its own ------------------------------------------------------------------------------


def open_with(implementation: Implementation, folder: Path) -> nn.Module:
    """Open the autoencoder of a folder in diffusers' layout."""
    if implementation == "own":
        return load(ENTRY, weights=folder)
    from diffusers import AutoencoderDC
    from diffusers.utils import logging

    logging.set_verbosity_error()  # it warns of the latent statistics that this project adds to the configuration
    autoencoder = AutoencoderDC.from_pretrained(folder).eval()
    for tensor in (*autoencoder.parameters(), *autoencoder.buffers()):
        tensor.data = tensor.data.clone()  # into the process's own memory, instead of mapped from the file
    return autoencoder


def reconstruct(implementation: Implementation, autoencoder: nn.Module, images: Tensor) -> Tensor:
    """Encode and decode, [B, 3, H, W] to [B, 3, H, W]."""
    return autoencoder(images) if implementation == "own" else autoencoder(images).sample


def forward_step(call: Callable[[Tensor], Tensor], autoencoder: nn.Module, images: Tensor, precision: str) -> Callable:
    """Return a forward pass with weights of the given precision."""
    autoencoder.to(DTYPES[precision])
    images = images.to(DTYPES[precision])
    return torch.inference_mode()(lambda: call(images))


def training_step(call: Callable[[Tensor], Tensor], autoencoder: nn.Module, images: Tensor, precision: str) -> Callable:
    """Return a forward and backward pass of the mean absolute error; weights in fp32, bf16 by autocast.

    The optimiser is left out: it is the same for both, and on a CPU it takes longer than the network.
    """
    autoencoder.train()

    def step() -> None:
        autoencoder.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            reconstructions = call(images)
        (images - reconstructions).abs().mean().backward()

    return step


STEPS = {"forward": forward_step, "training": training_step}


def measure(implementation: Implementation, work: str, device: str, setting: Setting, folder: Path) -> dict[str, float]:
    """Return the seconds of the fastest step and the peak memory in bytes; write the outputs of a forward pass."""
    autoencoder = open_with(implementation, folder).to(device)
    keep_freed_memory()  # as `dcae train` does
    torch.backends.cudnn.benchmark = True  # likewise
    shape = (setting.batch_sizes[work], 3, setting.resolution, setting.resolution)
    images = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    step = STEPS[work](
        lambda batch: reconstruct(implementation, autoencoder, batch), autoencoder, images, setting.precision
    )
    output = step()
    if output is not None:
        np.save(folder / f"{implementation}.npy", output.float().cpu().numpy())
    restart_peak_memory(device)
    seconds = best_time(step, torch.device(device), setting.seconds[work])
    return {f"{implementation} {work} seconds": seconds, f"{implementation} {work} bytes": peak_memory(device)}


def take_turn(implementation: Implementation, device: str, setting: Setting, folder: Path) -> dict[str, float]:
    """Measure the forward pass, then training, which takes more memory."""
    return {
        name: value for work in STEPS for name, value in measure(implementation, work, device, setting, folder).items()
    }


# --- comparisons ----------------------------------------------------------------------------------------------------


def ratios(best: dict[str, float], work: str) -> tuple[float, float]:
    """Return how many times as fast this project is as diffusers, and its share of diffusers' memory."""
    faster = best[f"diffusers {work} seconds"] / best[f"own {work} seconds"]
    return faster, best[f"own {work} bytes"] / best[f"diffusers {work} bytes"]


def compare(device: str, setting: Setting, folder: Path, tolerance: float) -> Iterator[bool]:
    """Compare speed, memory and outputs."""

    def turn() -> dict[str, float]:
        found: dict[str, float] = {}
        for each in ("own", "diffusers"):
            found |= in_a_new_process(take_turn, each, device, setting, folder)
            print(
                ", ".join(f"{name} {value:.4g}" for name, value in found.items() if name.startswith(each)), flush=True
            )
        return found

    def met(best: dict[str, float]) -> bool:
        found = {work: ratios(best, work) for work in STEPS}
        return all(
            setting.targets[work].met(faster) and NO_MORE_MEMORY.met(memory) for work, (faster, memory) in found.items()
        )

    best = best_of_turns(turn, met, setting.turns)
    for work in STEPS:
        size = setting.batch_sizes[work]
        name = f"{ENTRY}, {setting.resolution} px, {setting.precision}, {work}, batch {size}"
        rates = ", ".join(f"{each} {size / best[f'{each} {work} seconds']:.3f}" for each in ("own", "diffusers"))
        sizes = ", ".join(f"{each} {best[f'{each} {work} bytes'] / 2**30:.2f}" for each in ("own", "diffusers"))
        faster, memory = ratios(best, work)
        yield setting.targets[work].check(f"{name}, images/s over diffusers' ({rates})", faster, tolerance)
        yield NO_MORE_MEMORY.check(f"{name}, peak memory over diffusers' (GiB: {sizes})", memory)
    own, theirs = (np.load(folder / f"{each}.npy") for each in ("own", "diffusers"))
    difference = float(np.linalg.norm(own - theirs) / np.linalg.norm(theirs))
    equal = difference <= LARGEST_DIFFERENCE[setting.precision]
    print(f"outputs differ by {difference:.1e} of their norm{'' if equal else '   MISSED'}", flush=True)
    yield equal


def kept_less(implementation: Implementation, resolution: int) -> float:
    """Return how many times less a forward pass keeps for its backward pass in phase 2 than in phase 1.

    Counted on the meta device, that is, from shapes, without computing anything.
    """
    own = load(ENTRY_OF_PHASES, device="meta")
    if implementation == "own":
        autoencoder = own
        freeze_all_but(own, "middle")
    else:
        from diffusers import AutoencoderDC

        with torch.device("meta"):
            autoencoder = AutoencoderDC.from_config(config_of(own.entry))
        autoencoder.requires_grad_(False)
        for layer in (autoencoder.encoder.conv_out, autoencoder.decoder.conv_in):
            layer.requires_grad_(True)
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    middle = bytes_kept_for_backward(lambda: reconstruct(implementation, autoencoder, images))
    autoencoder.requires_grad_(True).train()
    return bytes_kept_for_backward(lambda: reconstruct(implementation, autoencoder, images)) / middle


def comparisons(device: str, tolerance: float) -> Iterator[bool]:
    """Compare speed and memory with diffusers, and the memory of phase 2 with the paper."""
    with tempfile.TemporaryDirectory() as folder:
        save(load(ENTRY, untrained=True), Path(folder))
        for setting in SETTINGS[device]:
            yield from compare(device, setting, Path(folder), tolerance)
    published = read_published()
    target = Target(published.peak_of_phase("full") / published.peak_of_phase("middle"))
    for resolution in (256, 1024):
        name = f"{ENTRY_OF_PHASES}, {resolution} px, kept for the backward pass in phase 1 over phase 2"
        print(f"{name}, diffusers: {kept_less('diffusers', resolution):.2f}")
        yield target.check(f"{name}, own", kept_less("own", resolution))


if __name__ == "__main__":
    sys.exit(run_comparisons(__doc__, comparisons))
