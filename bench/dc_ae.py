# SPDX-License-Identifier: Apache-2.0
"""``make bench``: DC-AE f32c32 as written here against diffusers' ``AutoencoderDC`` with the same weights, as ratios.

Each turn is a process of its own, and the two implementations take turns, so that neither meets a busier machine; the
second pair of turns is in the other order. Times are the best of all turns, of which there are fewer where a step takes
long, and more where another program may have broken a promise. With a GPU everything is measured there.

Peak memory is what is in use at once during the timed steps: weights, gradients, the optimiser's state, activations and
the workspace of operators.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.promises import Verdict, add_tolerance, judge
from bench.timing import PeakInUse, in_a_new_process
from dcae.autoencoders.dc_ae_config import config_of
from dcae.autoencoders.loading import load, save
from dcae.training.distributed import keep_freed_memory
from dcae.training.layers import freeze_all_but
from evaluation.efficiency.cost import bytes_kept_for_backward, count_macs
from evaluation.efficiency.timing import DTYPES, best_time, matrix_product_rate
from evaluation.published import read_published

Implementation = Literal["own", "diffusers"]
Work = Literal["forward", "training"]
WORKS: tuple[Work, ...] = ("forward", "training")

ENTRY = "dc-ae-f32c32"
ENTRY_OF_PHASES = "dc-ae-f64c128"
PUBLISHED = read_published()
PAPERS_RATIO = PUBLISHED.peak_of_phase("full") / PUBLISHED.peak_of_phase("middle")
MOST_PAIRS_OF_TURNS = 3
SECONDS_PER_SETTING = 130  # another pair of turns begins if it is likely to end within these, or to keep a promise
WARM_UP_CALLS: dict[Work, int] = {"forward": 1, "training": 2}  # the C library's memory grows until the third step
SECONDS_PER_WORK: dict[Work, int] = {"forward": 8, "training": 16}  # of a turn; one call if that takes longer
LARGEST_DIFFERENCE = {"fp32": 1e-4, "bf16": 3e-2}  # relative to the outputs' norm; bf16 has 8 bits


@dataclass(frozen=True)
class Setting:
    """What is compared, and how many times as fast the own implementation has to be."""

    device: str
    precision: Literal["fp32", "bf16"]
    resolution: int
    batch_sizes: dict[Work, int]
    promises: dict[Work, float]


ONE_IMAGE: dict[Work, int] = {"forward": 1, "training": 1}
SETTINGS = {
    "cpu": [
        Setting("cpu", "fp32", 256, ONE_IMAGE, {"forward": 1.1, "training": 1.1}),
        Setting("cpu", "bf16", 256, ONE_IMAGE, {"forward": 1.2, "training": 1.2}),
    ],
    # Training on 16 images, diffusers needs 81 GiB by counting, and an H100 has not quite 80.
    "cuda": [Setting("cuda", "bf16", 512, {"forward": 16, "training": 8}, {"forward": 1.3, "training": 1.3})],
}


@dataclass(frozen=True)
class Measurement:
    """One implementation at one work in one turn."""

    seconds: float
    peak_bytes: int
    outputs: np.ndarray | None  # tensors would come back through shared memory, of which containers have little


Turn = dict[Work, Measurement]


# --- one turn, in a process of its own ------------------------------------------------------------------------------


def open_with(implementation: Implementation, folder: Path) -> nn.Module:
    """The autoencoder of a folder in diffusers' layout, images to reconstructions."""
    if implementation == "own":
        return load(ENTRY, weights=folder)
    from diffusers import AutoencoderDC
    from diffusers.utils import logging

    logging.set_verbosity_error()  # it warns of the latent statistics that this project keeps in the configuration, too
    autoencoder = AutoencoderDC.from_pretrained(folder).eval()
    for tensor in (*autoencoder.parameters(), *autoencoder.buffers()):
        tensor.data = tensor.data.clone()  # weights that are mapped from the file would count as no memory
    return autoencoder


def call(implementation: Implementation, autoencoder: nn.Module, images: Tensor) -> Tensor:
    """Encode and decode, [B, 3, H, W] to [B, 3, H, W]."""
    return autoencoder(images) if implementation == "own" else autoencoder(images).sample


def random_images(setting: Setting, work: Work) -> Tensor:
    """The same noise for everyone, [B, 3, H, W] in [-1, 1] on the setting's device."""
    shape = (setting.batch_sizes[work], 3, setting.resolution, setting.resolution)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(setting.device)


def forward_step(implementation: Implementation, autoencoder: nn.Module, setting: Setting) -> Callable[[], Tensor]:
    """Encode and decode with weights of the setting's precision."""
    dtype = DTYPES[setting.precision]
    autoencoder.to(dtype)
    images = random_images(setting, "forward").to(dtype)
    return torch.inference_mode()(lambda: call(implementation, autoencoder, images))


def training_step(implementation: Implementation, autoencoder: nn.Module, setting: Setting) -> Callable[[], None]:
    """Forward pass under autocast, mean absolute error, backward pass, AdamW; weights in fp32."""
    images = random_images(setting, "training")
    optimiser = torch.optim.AdamW(autoencoder.train().parameters(), lr=1e-5, fused=True)  # as recipes have it
    for parameter in autoencoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # its state is there from the first step on

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.precision == "bf16"):
            reconstructions = call(implementation, autoencoder, images)
        (images - reconstructions).abs().mean().backward()
        optimiser.step()

    return step


def measure(implementation: Implementation, work: Work, autoencoder: nn.Module, setting: Setting) -> Measurement:
    """Calls to warm up, then as many as fit into so many seconds, or one."""
    device = torch.device(setting.device)
    make = forward_step if work == "forward" else training_step
    step = make(implementation, autoencoder, setting)
    for _ in range(WARM_UP_CALLS[work]):
        step()
    outputs: dict[str, Tensor | None] = {}
    with PeakInUse(device) as memory:
        seconds = best_time(lambda: outputs.update(last=step()), device, SECONDS_PER_WORK[work])
    last = outputs["last"]
    kept = None if last is None else last.float().cpu().numpy()
    return Measurement(seconds, memory.peak, kept)


def take_turn(implementation: Implementation, setting: Setting, folder: Path) -> Turn:
    """Training first, since weights of the forward pass may be rounded to bf16.

    Both implementations have what ``dcae train`` gives its own: glibc keeps freed memory.
    """
    keep_freed_memory()
    autoencoder = open_with(implementation, folder).to(setting.device)
    training = measure(implementation, "training", autoencoder, setting)
    autoencoder = open_with(implementation, folder).to(setting.device)
    return {"training": training, "forward": measure(implementation, "forward", autoencoder, setting)}


# --- comparisons ----------------------------------------------------------------------------------------------------


def compare(setting: Setting, folder: Path, tolerance: float) -> bool:
    """Print both implementations' speed and memory; false if a promise is broken."""
    turns: dict[Implementation, list[Turn]] = {"own": [], "diffusers": []}
    order: list[Implementation] = ["own", "diffusers"]
    start = perf_counter()
    for pairs in range(1, MOST_PAIRS_OF_TURNS + 1):
        for name in order:
            turns[name].append(in_a_new_process(take_turn, name, setting, folder))
        order.reverse()
        another_takes_too_long = (perf_counter() - start) * (pairs + 1) / pairs > SECONDS_PER_SETTING
        if another_takes_too_long and all(
            Comparison(setting, work, turns).verdict(0) is Verdict.KEPT for work in WORKS
        ):
            break
    kept = [print_comparison(Comparison(setting, work, turns), tolerance) for work in WORKS]
    own, theirs = (turns[name][0]["forward"].outputs for name in ("own", "diffusers"))
    return same_outputs(own, theirs, setting) and all(kept)


@dataclass(frozen=True)
class Comparison:
    """Both implementations at one work, in all turns so far."""

    setting: Setting
    work: Work
    turns: dict[Implementation, list[Turn]]

    @property
    def seconds(self) -> dict[Implementation, float]:
        """Of the fastest call."""
        return {name: min(turn[self.work].seconds for turn in found) for name, found in self.turns.items()}

    @property
    def peaks(self) -> dict[Implementation, int]:
        """Bytes."""
        return {name: max(turn[self.work].peak_bytes for turn in found) for name, found in self.turns.items()}

    @property
    def faster(self) -> float:
        """How many times as fast the own implementation is."""
        return self.seconds["diffusers"] / self.seconds["own"]

    def verdict(self, tolerance: float) -> Verdict:
        """Fast enough, but for a tolerance, in no more memory."""
        if self.peaks["own"] > self.peaks["diffusers"]:
            return Verdict.BROKEN
        return judge(self.faster / self.setting.promises[self.work], tolerance)


def print_comparison(found: Comparison, tolerance: float) -> bool:
    """Print speed and memory at one work; false if a promise is broken."""
    setting, work, peaks, verdict = found.setting, found.work, found.peaks, found.verdict(tolerance)
    size = setting.batch_sizes[work]
    rates = {name: size / each for name, each in found.seconds.items()}
    print(
        f"{work:9}{setting.precision:5} batch {size:2}: "
        f"own {rates['own']:8.3f} images/s {peaks['own'] / 2**30:6.2f} GiB, "
        f"diffusers {rates['diffusers']:8.3f} images/s {peaks['diffusers'] / 2**30:6.2f} GiB, "
        f"{found.faster:.2f} times as fast (promised {setting.promises[work]}, {len(found.turns['own'])} turns each)"
        f"{verdict}",
        flush=True,
    )
    if work == "forward":
        share_of_matrix_product(setting, found.seconds)
    return verdict is not Verdict.BROKEN


def same_outputs(own: np.ndarray, theirs: np.ndarray, setting: Setting) -> bool:
    """Print how far the outputs differ; false if by more than rounding."""
    difference = float(np.linalg.norm(own - theirs) / np.linalg.norm(theirs))
    kept = difference <= LARGEST_DIFFERENCE[setting.precision]
    print(f"         outputs differ by {difference:.1e} of their norm{'' if kept else '   BROKEN'}")
    return kept


def share_of_matrix_product(setting: Setting, seconds: dict[Implementation, float]) -> None:
    """Print the rate of each implementation's arithmetic beside that of a large matrix product."""
    macs = setting.batch_sizes["forward"] * macs_per_image(setting.resolution)
    rate = in_a_new_process(matrix_product_rate, torch.device(setting.device), setting.precision)
    shares = ", ".join(f"{name} {macs / each / rate:.0%}" for name, each in seconds.items())
    print(f"         of a matrix product's {rate / 1e9:.0f} GMAC/s: {shares} (every convolution counted in full)")


@functools.cache
def macs_per_image(resolution: int) -> int:
    """Of encoding and decoding."""
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    return count_macs(load(ENTRY, device="meta"), images)


def compare_phases(implementation: Implementation, resolution: int) -> float:
    """Print what a forward pass keeps for the backward pass in phases 1 and 2; how many times less phase 2 keeps.

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
    middle = bytes_kept_for_backward(lambda: call(implementation, autoencoder, images))
    autoencoder.requires_grad_(True).train()
    full = bytes_kept_for_backward(lambda: call(implementation, autoencoder, images))
    print(
        f"phases   {implementation}, {resolution} px: full {full / 2**30:.2f} GiB, middle {middle / 2**30:.2f} GiB, "
        f"{full / middle:.2f} times less (paper: {PAPERS_RATIO:.2f}, of all memory at 1024 px)",
        flush=True,
    )
    return full / middle


def main() -> int:
    """Print every comparison; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=SETTINGS, default="cuda" if torch.cuda.is_available() else "cpu")
    add_tolerance(parser)
    arguments = parser.parse_args()
    device = arguments.device
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{ENTRY} on {name}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        save(load(ENTRY), Path(folder))
        kept = [compare(setting, Path(folder), arguments.tolerance) for setting in SETTINGS[device]]
    for resolution in (256, 1024):
        ratios = {each: compare_phases(each, resolution) for each in ("own", "diffusers")}
        kept.append(ratios["own"] >= PAPERS_RATIO)
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
