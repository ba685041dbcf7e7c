# SPDX-License-Identifier: Apache-2.0
"""``make bench``: DC-AE f32c32 as written here against diffusers' ``AutoencoderDC`` with the same weights, as ratios.

Each measurement is a process of its own, and the two implementations take turns, so that neither meets a busier machine
and peak memory is that of one of them. Times are the best of all turns. With a GPU everything is measured there.

Peak memory on a CPU is that of the process, in a turn of its own in which freed memory goes back at once: how much of
it the allocator keeps is chance.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.timing import in_a_new_process, peak_memory, restart_peak_memory
from dcae.autoencoders import load, save
from dcae.training.freezing import freeze_all_but
from evaluation.cost import bytes_kept_for_backward, count_macs
from evaluation.efficiency.autoencoder import PAPERS_PHASES
from evaluation.efficiency.timing import DTYPES, best_time, matrix_product_rate

Implementation = Literal["own", "diffusers"]
Work = Literal["forward", "training"]

ENTRY = "dc-ae-f32c32"
ENTRY_OF_PHASES = "dc-ae-f64c128"
PAPERS_RATIO = PAPERS_PHASES["all"] / PAPERS_PHASES["middle"]
TURNS = 2
SECONDS_PER_TURN = 12
GIVE_MEMORY_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # man 3 mallopt
LARGEST_DIFFERENCE = {"fp32": 1e-4, "bf16": 3e-2}  # relative to the outputs' norm; bf16 has 8 bits


@dataclass(frozen=True)
class Setting:
    """What is compared, and how many times as fast the own implementation has to be."""

    device: str
    precision: Literal["fp32", "bf16"]
    resolution: int
    batch_size: int
    promise: float


SETTINGS = {
    "cpu": [Setting("cpu", "fp32", 256, 1, 1.1), Setting("cpu", "bf16", 256, 1, 1.2)],
    "cuda": [Setting("cuda", "bf16", 512, 16, 1.3)],
}


@dataclass(frozen=True)
class Measurement:
    """One turn of one implementation."""

    seconds: float
    peak_bytes: int
    outputs: Tensor | None = None


# --- one turn, in a process of its own ------------------------------------------------------------------------------


def open_with(implementation: Implementation, folder: Path) -> nn.Module:
    """The autoencoder of a folder in diffusers' layout, images to reconstructions."""
    if implementation == "own":
        return load(ENTRY, weights=folder)
    from diffusers import AutoencoderDC

    return AutoencoderDC.from_pretrained(folder).eval()


def call(implementation: Implementation, autoencoder: nn.Module, images: Tensor) -> Tensor:
    """Encode and decode, [B, 3, H, W] to [B, 3, H, W]."""
    return autoencoder(images) if implementation == "own" else autoencoder(images).sample


def random_images(setting: Setting) -> Tensor:
    """The same noise for everyone, [B, 3, H, W] in [-1, 1] on the setting's device."""
    shape = (setting.batch_size, 3, setting.resolution, setting.resolution)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(setting.device)


def forward_step(implementation: Implementation, autoencoder: nn.Module, setting: Setting) -> Callable[[], Tensor]:
    """Encode and decode with weights of the setting's precision."""
    dtype = DTYPES[setting.precision]
    autoencoder.to(dtype)
    images = random_images(setting).to(dtype)
    return torch.inference_mode()(lambda: call(implementation, autoencoder, images))


def training_step(implementation: Implementation, autoencoder: nn.Module, setting: Setting) -> Callable[[], None]:
    """Forward pass under autocast, mean absolute error, backward pass, AdamW; weights in fp32."""
    images = random_images(setting)
    optimiser = torch.optim.AdamW(autoencoder.train().parameters(), lr=1e-5)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.precision == "bf16"):
            reconstructions = call(implementation, autoencoder, images)
        (images - reconstructions).abs().mean().backward()
        optimiser.step()

    return step


def measure(implementation: Implementation, work: Work, setting: Setting, folder: Path, seconds: float) -> Measurement:
    """One turn: a call to warm up, then another, and more while they fit into so many seconds."""
    autoencoder = open_with(implementation, folder).to(setting.device)
    make = forward_step if work == "forward" else training_step
    step = make(implementation, autoencoder, setting)
    restart_peak_memory(setting.device)
    outputs = step()
    fastest = best_time(step, torch.device(setting.device), seconds)
    kept = None if outputs is None else outputs.float().cpu().clone()  # made in inference mode, not sent as such
    return Measurement(fastest, peak_memory(setting.device), kept)


# --- comparisons ----------------------------------------------------------------------------------------------------


def compare(setting: Setting, work: Work, folder: Path) -> bool:
    """Print both implementations' speed and memory; false if a promise is broken."""
    turns: dict[Implementation, list[Measurement]] = {"own": [], "diffusers": []}
    for _ in range(TURNS):
        for name, measurements in turns.items():
            measurements.append(in_a_new_process(measure, name, work, setting, folder, SECONDS_PER_TURN))
    seconds = {name: min(each.seconds for each in measurements) for name, measurements in turns.items()}
    arguments = (work, setting, folder, 0)
    peaks = {
        name: in_a_new_process(measure, name, *arguments, environment=GIVE_MEMORY_BACK).peak_bytes for name in turns
    }
    faster = seconds["diffusers"] / seconds["own"]
    kept = faster >= setting.promise and peaks["own"] <= peaks["diffusers"]
    rates = {name: setting.batch_size / each for name, each in seconds.items()}
    print(
        f"{work:9}{setting.precision:5} own {rates['own']:8.3f} images/s {peaks['own'] / 2**30:6.2f} GiB, "
        f"diffusers {rates['diffusers']:8.3f} images/s {peaks['diffusers'] / 2**30:6.2f} GiB, "
        f"{faster:.2f} times as fast (promised {setting.promise}){'' if kept else '   BROKEN'}",
        flush=True,
    )
    if work == "forward":
        kept &= same_outputs(turns["own"][0].outputs, turns["diffusers"][0].outputs, setting)
        share_of_matrix_product(setting, seconds)
    return kept


def same_outputs(own: Tensor, theirs: Tensor, setting: Setting) -> bool:
    """Print how far the outputs differ; false if by more than rounding."""
    difference = float((own - theirs).norm() / theirs.norm())
    kept = difference <= LARGEST_DIFFERENCE[setting.precision]
    print(f"         outputs differ by {difference:.1e} of their norm{'' if kept else '   BROKEN'}")
    return kept


def share_of_matrix_product(setting: Setting, seconds: dict[Implementation, float]) -> None:
    """Print the rate of each implementation's arithmetic beside that of a large matrix product."""
    macs = setting.batch_size * macs_per_image(setting.resolution)
    rate = in_a_new_process(matrix_product_rate, torch.device(setting.device), setting.precision)
    shares = ", ".join(f"{name} {macs / each / rate:.0%}" for name, each in seconds.items())
    print(f"         of a matrix product's {rate / 1e9:.0f} GMAC/s: {shares} (every convolution counted in full)")


@functools.cache
def macs_per_image(resolution: int) -> int:
    """Of encoding and decoding."""
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    return count_macs(load(ENTRY, device="meta"), images)


def compare_phases(implementation: Implementation) -> float:
    """Print what a forward pass keeps for the backward pass in phases 1 and 2, at 256 px; how many times less."""
    own = load(ENTRY_OF_PHASES)
    autoencoder = own
    if implementation == "diffusers":
        with tempfile.TemporaryDirectory() as folder:
            save(own, Path(folder))
            autoencoder = open_with("diffusers", Path(folder))
        del own
        autoencoder.requires_grad_(False)
        for layer in (autoencoder.encoder.conv_out, autoencoder.decoder.conv_in):
            layer.requires_grad_(True)
    else:
        freeze_all_but(own, "middle")
    images = random_images(Setting("cpu", "fp32", 256, 1, 1))
    middle = bytes_kept_for_backward(lambda: call(implementation, autoencoder, images))
    autoencoder.requires_grad_(True).train()
    full = bytes_kept_for_backward(lambda: call(implementation, autoencoder, images))
    print(
        f"phases   {implementation}: full {full / 2**30:.2f} GiB, middle {middle / 2**30:.2f} GiB, "
        f"{full / middle:.2f} times less (paper: {PAPERS_RATIO:.2f}, of all memory at 1024 px)",
        flush=True,
    )
    return full / middle


def main() -> int:
    """Print every comparison; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=SETTINGS, default="cuda" if torch.cuda.is_available() else "cpu")
    device = parser.parse_args().device
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{ENTRY} on {name}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        save(load(ENTRY), Path(folder))
        kept = [
            compare(setting, work, Path(folder)) for setting in SETTINGS[device] for work in ("forward", "training")
        ]
    ratios = {each: in_a_new_process(compare_phases, each) for each in ("own", "diffusers")}
    kept.append(ratios["own"] >= PAPERS_RATIO)
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
