# SPDX-License-Identifier: Apache-2.0
"""``make bench``: Fréchet distances against a matrix square root, and one pass against tool by tool, as ratios.

Tool by tool means what one does without this project: write reconstructions as PNG, run torch-fidelity's extractor on
both folders, then lpips, then torchmetrics' SSIM and PSNR, each on the images of the folders. Loading of networks and
the distance itself are left out on both sides. Each side runs as its users run it, in a process of its own: the pass,
and the networks that it is compared with, keep freed memory, as ``dcae evaluate`` does; the tools do not.

The pass reads the features of the originals from a file that is made once for all autoencoders, while the tools extract
both folders; the ratio where they keep those features, too, is printed as well.

Everything runs on one thread, and ratios are of CPU seconds, which depend little on what else the machine does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

from bench.timing import Target, best_of_turns, in_a_new_process, run_comparisons
from dcae.autoencoders.loading import load
from dcae.benchmark.config import Config
from dcae.benchmark.entries import FolderEntry, Protocol
from dcae.data.dataset import ImageDataset
from dcae.data.loading import open_dataset
from dcae.training.distributed import keep_freed_memory
from dcae.training.perceptual import perceptual_network
from evaluation.features.inception import load_inception
from evaluation.features.quantisation import to_network
from evaluation.features.reference import batches
from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.metrics.jackknife import jackknife_frechet
from evaluation.quality.one_pass import OnePass, measure
from evaluation.quality.reconstruction import reconstruct_pixels

RESOLUTION, IMAGES, BATCH = 256, 32, 16
CALLS = {"pass": 4, "tools": 2}  # in a turn; the tools take longest
PROTOCOL, AUTOENCODER = "random-features", "blur"
DIMENSIONS, SAMPLES, FEW_SAMPLES = 2048, 5000, 64
FASTER_THAN_SQRTM, JACKKNIFE = Target(5), Target(0.2, at_most=True)
FASTER_THAN_TOOLS, ABOVE_FORWARDS = Target(2.5), Target(1.15, at_most=True)
EQUAL_TO_SQRTM = 1e-6
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def cpu_seconds(function: Callable, *arguments: object) -> tuple[float, object]:
    """Return the CPU seconds of a call, and its result."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def frechet_seconds() -> dict[str, float]:
    """Return the CPU seconds of distances at full rank and of a small set, and the difference to scipy's.

    The small set is a cell of the demo: a distance with the jackknife of its standard error.
    """
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -1.5, DIMENSIONS, dtype=torch.float64)
    a, b = (
        Moments.of(torch.randn(SAMPLES, DIMENSIONS, generator=generator, dtype=torch.float64) * spread * scale)
        for scale in (1.0, 1.2)
    )
    ours, distance = cpu_seconds(frechet_distance, a.mean, a.covariance, b.mean, b.covariance)
    scipys, root = cpu_seconds(scipy.linalg.sqrtm, a.covariance.numpy() @ b.covariance.numpy())
    difference = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    theirs = float(difference) - 2 * float(np.trace(root).real)
    made = torch.randn(FEW_SAMPLES, DIMENSIONS, generator=generator).relu()
    real = made + 0.1 * torch.randn(FEW_SAMPLES, DIMENSIONS, generator=generator)
    jackknife_frechet(made[:8], real[:8], paired=True)  # the first call loads libraries
    jackknife, _ = cpu_seconds(lambda: jackknife_frechet(made, real, paired=True))
    return {"own": ours, "scipy": scipys, "jackknife": jackknife, "off": abs(distance / theirs - 1)}


def compare_frechet(tolerance: float) -> Iterator[bool]:
    """Compare Fréchet distances with scipy's matrix square root."""
    best = best_of_turns(
        partial(in_a_new_process, frechet_seconds, environment=ONE_THREAD),
        lambda best: (
            FASTER_THAN_SQRTM.met(best["scipy"] / best["own"]) and JACKKNIFE.met(best["jackknife"] / best["own"])
        ),
    )
    seconds = f"CPU seconds: own {best['own']:.2f}, scipy.linalg.sqrtm {best['scipy']:.2f}"
    name = f"Frechet distance, {DIMENSIONS} dimensions, speed over scipy's ({seconds})"
    yield FASTER_THAN_SQRTM.check(name, best["scipy"] / best["own"], tolerance)
    name = f"distance and jackknife of {FEW_SAMPLES} images, time over one distance at full rank"
    yield JACKKNIFE.check(f"{name} ({best['jackknife']:.2f} CPU s)", best["jackknife"] / best["own"], tolerance)
    equal = best["off"] <= EQUAL_TO_SQRTM
    print(f"equal to {best['off']:.0e}{'' if equal else '   MISSED'}", flush=True)
    yield equal


# --- one pass -------------------------------------------------------------------------------------------------------


def write_images(images: Tensor, folder: Path, first: int) -> None:
    """Write uint8 images as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy(), first):
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")


def read_images(folder: Path) -> list[Tensor]:
    """Return the images of a folder in batches."""
    images = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in sorted(folder.iterdir())]
    return list(torch.stack(images).split(BATCH))


def write_photographs(folder: Path) -> None:
    """Write crops of scikit-image's photographs as PNG files."""
    crops = open_dataset(Config().entry("datasets", "photographs"), "validation", RESOLUTION)
    for start, batch in enumerate(batches(crops, IMAGES, BATCH)):
        write_images(batch, folder / "validation", start * BATCH)


def photographs(folder: Path) -> ImageDataset:
    """Open the written files as a dataset."""
    return open_dataset(FolderEntry(name="bench", kind="folder", path=str(folder)), "validation", RESOLUTION)


class Tools:
    """The field's tools, with the networks of the pass."""

    def __init__(self, protocol: Protocol, folder: Path):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

        state = load_inception(protocol.inception).state_dict()
        state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
        torch.save(state, folder / "inception.pth")
        self.extractor = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=folder / "inception.pth"
        )
        self.lpips = perceptual_network(protocol.lpips)
        self.metrics = (
            StructuralSimilarityIndexMeasure(data_range=(0.0, 255.0)),
            PeakSignalNoiseRatio(data_range=255.0, dim=(1, 2, 3), reduction="elementwise_mean"),
        )

    @torch.inference_mode()
    def run(self, autoencoder: nn.Module, dataset: ImageDataset, real: Path, made: Path) -> float:
        """Run one tool after the other; return the CPU seconds of the features of the real images."""
        from torch_fidelity.utils import extract_featuresdict_from_input_id

        for start, batch in enumerate(batches(dataset, IMAGES, BATCH)):
            write_images(reconstruct_pixels(autoencoder, batch), made, start * BATCH)
        options = {"batch_size": BATCH, "cuda": False, "save_cpu_ram": True, "verbose": False}
        extract_featuresdict_from_input_id(1, self.extractor, input1=str(made), **options)
        originals, _ = cpu_seconds(
            lambda: extract_featuresdict_from_input_id(2, self.extractor, input2=str(real), **options)
        )
        for x, y in zip(read_images(made), read_images(real), strict=True):
            self.lpips(to_network(x), to_network(y))
        for metric in self.metrics:
            for x, y in zip(read_images(made), read_images(real), strict=True):
                metric.update(x, y)
            metric.compute()
        return originals


@torch.inference_mode()
def forwards(one_pass: OnePass, dataset: ImageDataset) -> float:
    """Return the CPU seconds of the network forwards of a pass alone, their inputs made before."""
    (inception,) = one_pass.extractor.networks.values()
    lpips = perceptual_network(one_pass.protocols[0].lpips).to(memory_format=torch.channels_last)
    seconds = 0.0
    for batch in batches(dataset, IMAGES, BATCH):
        network_input = inception.resize(batch).contiguous(memory_format=torch.channels_last)
        pixels = to_network(batch).contiguous(memory_format=torch.channels_last)
        seconds += cpu_seconds(inception.network, network_input)[0] + cpu_seconds(lpips, pixels, pixels)[0]
    return seconds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars and warnings of the tools."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def seconds_of_pass(folder: Path) -> dict[str, float]:
    """Return the CPU seconds of one pass, and of the forwards of its networks alone."""
    keep_freed_memory()
    with quiet():
        autoencoder, dataset = load(AUTOENCODER).eval(), photographs(folder)
        one_pass = OnePass([Config().entry("protocols", PROTOCOL)])
        measure(one_pass, autoencoder, dataset, 0, BATCH, BATCH)  # the first call of a network is slower
        passes, alone = [], []
        for _ in range(CALLS["pass"]):
            passes.append(cpu_seconds(measure, one_pass, autoencoder, dataset, 0, IMAGES, BATCH)[0])
            alone.append(forwards(one_pass, dataset))
    return {"one pass": min(passes), "network forwards": min(alone)}


def seconds_of_tools(folder: Path) -> dict[str, float]:
    """Return the CPU seconds of the tools one after the other, with and without the features of the originals."""
    with quiet(), tempfile.TemporaryDirectory() as name:
        autoencoder, dataset = load(AUTOENCODER).eval(), photographs(folder)
        tools = Tools(Config().entry("protocols", PROTOCOL), Path(name))
        seconds, cached = [], []
        for _ in range(CALLS["tools"]):
            whole, originals = cpu_seconds(tools.run, autoencoder, dataset, folder / "validation", Path(name) / "made")
            seconds.append(whole)
            cached.append(whole - originals)
    return {"tool by tool": min(seconds), "tool by tool, originals kept": min(cached)}


def compare_pass(tolerance: float) -> Iterator[bool]:
    """Compare one pass with the tools, and with the networks alone."""

    def turn() -> dict[str, float]:
        sides = (seconds_of_pass, seconds_of_tools)
        of_pass, of_tools = (in_a_new_process(side, Path(folder), environment=ONE_THREAD) for side in sides)
        return of_pass | of_tools

    def above(best: dict[str, float]) -> float:
        return best["one pass"] / best["network forwards"]

    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder))
        best = best_of_turns(
            turn,
            lambda best: (
                FASTER_THAN_TOOLS.met(best["tool by tool"] / best["one pass"]) and ABOVE_FORWARDS.met(above(best))
            ),
        )
    rates = ", ".join(f"{name} {IMAGES / seconds:.2f}" for name, seconds in best.items())
    print(f"quality at {RESOLUTION} px, images per CPU second: {rates}")
    cached = best["tool by tool, originals kept"] / best["one pass"]
    name = f"one pass over tool by tool ({cached:.2f} where the tools keep the features of originals)"
    yield FASTER_THAN_TOOLS.check(name, best["tool by tool"] / best["one pass"], tolerance)
    yield ABOVE_FORWARDS.check("time of one pass over its network forwards alone", above(best), tolerance)


def comparisons(device: str, tolerance: float) -> Iterator[bool]:
    """Compare the evaluation, on one thread of a CPU."""
    yield from compare_pass(tolerance)
    yield from compare_frechet(tolerance)


if __name__ == "__main__":
    sys.exit(run_comparisons(__doc__, comparisons))
