# SPDX-License-Identifier: Apache-2.0
"""The sample set of a diffusion model: generated once, measured as a stream, and stored as features.

Sample k is a function of (seed, k) alone, so any number of processes generate any part of the set in any order, and a
stopped run resumes with the missing shards (``dcae.shards``). A folder stores one row of every column per sample, such
as features [n, d], and the first few images; all images are written on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcae.autoencoders.contract import denormalise
from dcae.autoencoders.tiling import images_at_once
from dcae.benchmark.entries import DiffusionEntry, NoiseSchedule
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.sampling import draw_conditions, sample, sample_generators
from dcae.files import replacing
from dcae.shards import INDEX, Shard, open_shards, read_index, write_shards
from evaluation.features.quantisation import to_uint8

FORMAT = 3
SHOWN = 8
FIRST_SAMPLES = "first-samples.safetensors"


@contextmanager
def float32_products_in(precision: Literal["fp32", "tf32"]) -> Iterator[None]:
    """Compute float32 matrix products and convolutions of CUDA in a precision, by their inputs; a CPU has no TF32."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [each.allow_tf32 for each in backends]
    try:
        for each in backends:
            each.allow_tf32 = precision == "tf32"
        yield
    finally:
        for each, allowed in zip(backends, before, strict=True):
            each.allow_tf32 = allowed


@dataclass(frozen=True)
class ImageSource:
    """A diffusion model with its autoencoder, which generates samples by index.

    Attributes:
        noise_schedule: of the recipe that trained the denoiser.
        captions: conditions of a denoiser with conditioning ``caption``.
        quantisation: of images that are shown or written.
        precision: of sampling and decoding on a GPU.
    """

    denoiser: nn.Module
    entry: DiffusionEntry
    noise_schedule: NoiseSchedule | None
    autoencoder: nn.Module
    latent_shape: tuple[int, int, int]
    classes: int
    seed: int
    captions: CaptionDataset | None = None
    quantisation: Literal["round", "truncate"] = "round"
    precision: Literal["fp32", "tf32"] = "fp32"

    @torch.inference_mode()
    def images(self, indices: Sequence[int], guidance_scale: float) -> tuple[Tensor, Tensor]:
        """Generate images in [-1, 1], float [B, 3, R, R], not clamped, and their labels or indices of captions [B].

        Each is a function of the seed and its index alone.

        Raises:
            ValueError: decoded images hold NaN or infinity.
        """
        with float32_products_in(self.precision):
            latents, labels = sample(
                self.denoiser,
                self.entry,
                self.noise_schedule,
                indices,
                self.latent_shape,
                self.seed,
                guidance_scale,
                self.classes,
                self.captions,
            )
            side = self.autoencoder.spatial_compression * latents.shape[-1]
            parts = denormalise(self.autoencoder, latents).split(images_at_once(side, len(latents)))
            images = torch.cat([self.autoencoder.decode(part) for part in parts])
        if not images.isfinite().all():
            raise ValueError(f"{self.entry.name}: decoded samples hold NaN or infinity: did its training diverge?")
        return images, labels

    def conditions(self, indices: Sequence[int]) -> list[int]:
        """Return the labels or the indices of captions that ``images`` generates samples for."""
        generators = sample_generators(self.seed, indices)
        return draw_conditions(generators, indices, self.entry.classes(self.classes), self.captions).tolist()


@dataclass(frozen=True)
class SampleSet:
    """The measured set of one guidance scale."""

    rows: dict[str, Tensor]  # by column, [N, ...]
    first: Tensor  # uint8 [K, 3, R, R], of the first shard


def write_sample_set(
    source: ImageSource,
    measures: Callable[[Tensor, Tensor], Shard],
    guidance_scale: float,
    count: int,
    folder: Path,
    identity: dict[str, Any],
    batch_size: int = 16,
    shard_size: int = 512,
    all_images: Path | None = None,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSet | None:
    """Generate and measure the missing samples of this process, and return the set if it is complete then.

    Args:
        source: of the images.
        measures: returns the columns of a batch, given images and labels of ``ImageSource.images``.
        guidance_scale: 1 means none.
        count: number of samples.
        folder: created if missing; shards of another identity are replaced.
        identity: everything that decides samples and measures (weights, configuration, version), as JSON.
        batch_size: samples at a time; changes values by rounding only.
        shard_size: samples per shard, the most that a stopped run repeats.
        all_images: folder for every sample as a PNG named after its number; default: none are written.
        process, processes: this process generates the shards ``process``, ``process + processes``, ....
        progress: called with the number of finished samples of this process, and of all its samples.

    Returns:
        ``None`` while shards of other processes are missing.
    """
    plan = {
        "format": FORMAT,
        "identity": identity,
        "guidance_scale": guidance_scale,
        "count": count,
        "shard_size": shard_size,
        "all_images": str(all_images) if all_images else None,
    }

    def make(start: int, length: int) -> Shard:
        parts: list[Shard] = []
        first: list[Tensor] = []
        for begin in range(start, start + length, batch_size):
            indices = range(begin, min(begin + batch_size, start + length))
            images, labels = source.images(indices, guidance_scale)
            parts.append(measures(images, labels))
            pixels = to_uint8(images, source.quantisation).cpu()
            if start == 0 and begin < SHOWN:
                first.append(pixels)
            if all_images:
                _write_images(pixels, indices, all_images)
        if first:
            _write_first(torch.cat(first)[:SHOWN], folder)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    write_shards(
        folder,
        plan,
        make,
        lambda shards: {"measures": sorted(shards[0])},
        process,
        processes,
        progress,
        beside=lambda number: number > 0 or _read_first(folder) is not None,
    )
    return _read(folder, plan)


def _read(folder: Path, plan: dict[str, Any]) -> SampleSet | None:
    if not (folder / INDEX).is_file():
        return None
    index = read_index(folder, "the samples")
    if any(index[name] != value for name, value in plan.items()):
        return None
    shards = open_shards(folder, index, index["measures"])
    whole = {name: torch.cat([shard[name] for shard in shards]) for name in index["measures"]}
    first = _read_first(folder)
    return None if first is None else SampleSet(whole, first)


def _read_first(folder: Path) -> Tensor | None:
    """Return the images of ``_write_first``; ``None`` if they are missing or damaged."""
    try:
        return load_file(folder / FIRST_SAMPLES)["images"]
    except (OSError, SafetensorError, KeyError):
        return None


def _write_first(images: Tensor, folder: Path) -> None:
    with replacing(folder / FIRST_SAMPLES) as temporary:
        save_file({"images": images.contiguous()}, temporary)


def _write_images(images: Tensor, indices: Sequence[int], folder: Path) -> None:
    for pixels, index in zip(images.permute(0, 2, 3, 1).numpy(), indices, strict=True):
        with replacing(folder / f"{index:06d}.png") as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
