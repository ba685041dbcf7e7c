# SPDX-License-Identifier: Apache-2.0
"""``make bench``: the Fréchet distance against scipy's matrix square root, and one pass against tool by tool.

Tool by tool means what one does without this project: write reconstructions as PNG, run torch-fidelity's extractor on
both folders, then lpips, then torchmetrics' SSIM and PSNR, each on the images of the folders. Loading of networks and
the distance itself are left out on both sides. They take turns, and the best turn of each counts.

Everything runs on one thread and is measured in CPU seconds, which depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.timing import in_a_new_process
from dcae.autoencoders import load
from dcae.benchmark import Config
from dcae.benchmark.entries import FolderEntry, Protocol
from dcae.data import ImageDataset, open_dataset
from dcae.training import perceptual_network
from evaluation.features import load_inception
from evaluation.one_pass import OnePass, measure
from evaluation.pixels import to_network
from evaluation.reconstruction import reconstruct_pixels
from evaluation.reference import batches
from evaluation.statistics import Moments, frechet_distance

RESOLUTION, IMAGES, BATCH, TURNS = 256, 32, 16, 2
DIMENSIONS, SAMPLES = 2048, 5000
FASTER_THAN_SQRTM, FASTER_THAN_TOOLS, ABOVE_FORWARDS = 5.0, 2.5, 0.15
EQUAL_TO_SQRTM = 1e-6
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def compare_frechet() -> bool:
    """Print the time of both ways at full rank and how far they differ; whether the promises are kept."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -1.5, DIMENSIONS, dtype=torch.float64)
    a, b = (
        Moments.of(torch.randn(SAMPLES, DIMENSIONS, generator=generator, dtype=torch.float64) * spread * scale)
        for scale in (1.0, 1.2)
    )
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        ours = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
        times.append(time.process_time() - start)
    start = time.process_time()
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    seconds = time.process_time() - start
    difference = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    theirs = float(difference) - 2 * float(np.trace(root).real)
    faster, off = seconds / min(times), abs(ours / theirs - 1)
    kept = faster >= FASTER_THAN_SQRTM and off <= EQUAL_TO_SQRTM
    print(
        f"Frechet distance, {DIMENSIONS} dimensions: {min(times):.2f} s, scipy.linalg.sqrtm {seconds:.2f} s: "
        f"{faster:.1f} times as fast (promised {FASTER_THAN_SQRTM:g}), equal to {off:.0e}{'' if kept else '   BROKEN'}",
        flush=True,
    )
    return kept


# --- one pass -------------------------------------------------------------------------------------------------------


def write_images(images: Tensor, folder: Path, first: int) -> None:
    """uint8 images as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy(), first):
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")


def read_images(folder: Path) -> list[Tensor]:
    """The images of a folder in batches."""
    images = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in sorted(folder.iterdir())]
    return list(torch.stack(images).split(BATCH))


def photographs(folder: Path) -> ImageDataset:
    """Crops of scikit-image's photographs, as PNG files of a data set on disk."""
    crops = open_dataset(Config().entry("datasets", "photographs"), "validation", RESOLUTION)
    for start, batch in enumerate(batches(crops, IMAGES, BATCH)):
        write_images(batch, folder / "validation", start * BATCH)
    return open_dataset(FolderEntry(name="bench", kind="folder", path=str(folder)), "validation", RESOLUTION)


class Tools:
    """What the field uses, with the very networks of the pass."""

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
    def run(self, autoencoder: nn.Module, dataset: ImageDataset, real: Path, made: Path) -> None:
        """One tool after the other."""
        from torch_fidelity.utils import extract_featuresdict_from_input_id

        for start, batch in enumerate(batches(dataset, IMAGES, BATCH)):
            write_images(reconstruct_pixels(autoencoder, batch), made, start * BATCH)
        options = {"batch_size": BATCH, "cuda": False, "save_cpu_ram": True, "verbose": False}
        for number, folder in enumerate((made, real), 1):
            extract_featuresdict_from_input_id(number, self.extractor, **options, **{f"input{number}": str(folder)})
        for x, y in zip(read_images(made), read_images(real), strict=True):
            self.lpips(to_network(x), to_network(y))
        for metric in self.metrics:
            for x, y in zip(read_images(made), read_images(real), strict=True):
                metric.update(x, y)
            metric.compute()


@torch.inference_mode()
def forwards(one_pass: OnePass, dataset: ImageDataset) -> float:
    """CPU seconds of the network forwards of a pass alone, their inputs made before."""
    (inception,) = one_pass.extractor.networks.values()
    (lpips,) = one_pass.lpips.values()
    seconds = 0.0
    for batch in batches(dataset, IMAGES, BATCH):
        network_input = inception.resize(batch).contiguous(memory_format=torch.channels_last)
        pixels = to_network(batch).contiguous(memory_format=torch.channels_last)
        start = time.process_time()
        inception.network(network_input)
        lpips(pixels, pixels)
        seconds += time.process_time() - start
    return seconds


def timed(function: Callable, *arguments: object) -> float:
    """CPU seconds that a call takes."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def compare_pass() -> bool:
    """Print images per second of one pass, of the tools, and of the networks alone; whether the promises are kept."""
    protocol = Config().entry("protocols", "random-features")
    autoencoder = load("blur").eval()
    best = {"one pass": np.inf, "tool by tool": np.inf, "network forwards": np.inf}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = photographs(folder)
        one_pass, tools = OnePass([protocol]), Tools(protocol, folder)
        measure(one_pass, autoencoder, dataset, 0, BATCH, BATCH)  # the first call of a network is slower
        for turn in range(TURNS + 1):
            seconds = {
                "one pass": timed(measure, one_pass, autoencoder, dataset, 0, IMAGES, BATCH),
                "network forwards": forwards(one_pass, dataset),
            }
            if turn < TURNS:  # the tools take longest
                real, made = folder / "validation", folder / "made"
                seconds["tool by tool"] = timed(tools.run, autoencoder, dataset, real, made)
            best |= {name: min(best[name], each) for name, each in seconds.items()}
    faster = best["tool by tool"] / best["one pass"]
    above = best["one pass"] / best["network forwards"] - 1
    kept = faster >= FASTER_THAN_TOOLS and above <= ABOVE_FORWARDS
    rates = ", ".join(f"{name} {IMAGES / seconds:.2f}" for name, seconds in best.items())
    print(
        f"images per CPU second at {RESOLUTION} px: {rates}; "
        f"{faster:.2f} times as fast as tool by tool (promised {FASTER_THAN_TOOLS:g}), "
        f"{above:.0%} above the networks alone (at most {ABOVE_FORWARDS:.0%}){'' if kept else '   BROKEN'}",
        flush=True,
    )
    return kept


def main() -> int:
    """Print every comparison; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["frechet", "pass"], help="one of the two comparisons")
    return in_a_new_process(compare_all, parser.parse_args().only, environment=ONE_THREAD)


def compare_all(only: str | None) -> int:
    """Print every comparison, or one; 1 if a promise is broken."""
    print(f"evaluation on one thread of a CPU, torch {torch.__version__}, scipy {scipy.__version__}", flush=True)
    # Progress bars and warnings of the tools.
    with Path("/dev/null").open("w") as nowhere, contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [
            compare()
            for name, compare in (("pass", compare_pass), ("frechet", compare_frechet))
            if only in (None, name)
        ]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
