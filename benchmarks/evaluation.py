# SPDX-License-Identifier: Apache-2.0
"""``make bench``: the Fréchet distance against scipy's matrix square root, and one pass against tool by tool.

Tool by tool means what one does without this project: write reconstructions as PNG, run torch-fidelity's extractor on
both folders, then lpips, then torchmetrics' SSIM and PSNR, each on the images of the folders. Loading of networks and
the distance itself are left out on both sides. They take turns, and the best turn of each counts.

Everything runs on one thread. What is promised is promised of CPU seconds, which depend little on what else the
machine does; the same numbers by the clock stand beside them in brackets, and are equal on a machine that does nothing
else and waits for no disk.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
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
from evaluation.quantisation import to_network
from evaluation.reconstruction import reconstruct_pixels
from evaluation.reference import batches
from evaluation.statistics import Moments, frechet_distance

RESOLUTION, IMAGES, BATCH, TURNS, SHORT_TURNS = 256, 32, 16, 2, 5
DIMENSIONS, SAMPLES = 2048, 5000
FASTER_THAN_SQRTM, FASTER_THAN_TOOLS, ABOVE_FORWARDS = 5.0, 2.5, 0.15
EQUAL_TO_SQRTM = 1e-6
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Seconds:
    """What a call took, of the processor and on the clock."""

    cpu: float
    clock: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.clock + other.clock)

    def best(self, other: Seconds) -> Seconds:
        """The smaller of each."""
        return Seconds(min(self.cpu, other.cpu), min(self.clock, other.clock))

    def over(self, other: Seconds) -> Seconds:
        """How many times the other."""
        return Seconds(self.cpu / other.cpu, self.clock / other.clock)


NEVER = Seconds(np.inf, np.inf)


def timed(function: Callable, *arguments: object) -> tuple[Seconds, object]:
    """What a call took, and what it returned."""
    start, clock = time.process_time(), time.perf_counter()
    result = function(*arguments)
    return Seconds(time.process_time() - start, time.perf_counter() - clock), result


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def compare_frechet() -> bool:
    """Print the time of both ways at full rank and how far they differ; whether the promises are kept."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -1.5, DIMENSIONS, dtype=torch.float64)
    a, b = (
        Moments.of(torch.randn(SAMPLES, DIMENSIONS, generator=generator, dtype=torch.float64) * spread * scale)
        for scale in (1.0, 1.2)
    )
    best = NEVER
    for _ in range(TURNS):
        seconds, ours = timed(frechet_distance, a.mean, a.covariance, b.mean, b.covariance)
        best = best.best(seconds)
    product = a.covariance.numpy() @ b.covariance.numpy()
    of_scipy, root = timed(scipy.linalg.sqrtm, product)
    difference = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    theirs = float(difference) - 2 * float(np.trace(root).real)
    faster, off = of_scipy.over(best), abs(ours / theirs - 1)
    kept = faster.cpu >= FASTER_THAN_SQRTM and off <= EQUAL_TO_SQRTM
    print(
        f"Frechet distance, {DIMENSIONS} dimensions, CPU seconds (on the clock): {best.cpu:.2f} ({best.clock:.2f}), "
        f"scipy.linalg.sqrtm {of_scipy.cpu:.2f} ({of_scipy.clock:.2f}): {faster.cpu:.1f} ({faster.clock:.1f}) times as "
        f"fast, promised {FASTER_THAN_SQRTM:g} of CPU seconds; equal to {off:.0e}{'' if kept else '   BROKEN'}",
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
def forwards(one_pass: OnePass, dataset: ImageDataset) -> Seconds:
    """What the network forwards of a pass take alone, their inputs made before."""
    (inception,) = one_pass.extractor.networks.values()
    (lpips,) = one_pass.lpips.values()
    seconds = Seconds(0, 0)
    for batch in batches(dataset, IMAGES, BATCH):
        network_input = inception.resize(batch).contiguous(memory_format=torch.channels_last)
        pixels = to_network(batch).contiguous(memory_format=torch.channels_last)
        seconds += timed(inception.network, network_input)[0]
        seconds += timed(lpips, pixels, pixels)[0]
    return seconds


def compare_pass() -> bool:
    """Print images per second of one pass, of the tools, and of the networks alone; whether the promises are kept."""
    protocol = Config().entry("protocols", "random-features")
    autoencoder = load("blur").eval()
    best = dict.fromkeys(("one pass", "tool by tool", "network forwards"), NEVER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = photographs(folder)
        one_pass, tools = OnePass([protocol]), Tools(protocol, folder)
        measure(one_pass, autoencoder, dataset, 0, BATCH, BATCH)  # the first call of a network is slower
        for turn in range(SHORT_TURNS):
            seconds = {
                "one pass": timed(measure, one_pass, autoencoder, dataset, 0, IMAGES, BATCH)[0],
                "network forwards": forwards(one_pass, dataset),
            }
            if turn < TURNS:  # the tools take longest
                real, made = folder / "validation", folder / "made"
                seconds["tool by tool"] = timed(tools.run, autoencoder, dataset, real, made)[0]
            best |= {name: best[name].best(each) for name, each in seconds.items()}
    faster = best["tool by tool"].over(best["one pass"])
    above = best["one pass"].over(best["network forwards"])
    kept = faster.cpu >= FASTER_THAN_TOOLS and above.cpu - 1 <= ABOVE_FORWARDS
    rates = ", ".join(f"{name} {IMAGES / each.cpu:.2f} ({IMAGES / each.clock:.2f})" for name, each in best.items())
    print(
        f"images per CPU second (per second on the clock) at {RESOLUTION} px: {rates}; "
        f"{faster.cpu:.2f} ({faster.clock:.2f}) times as fast as tool by tool, promised {FASTER_THAN_TOOLS:g} of CPU "
        f"seconds; {above.cpu - 1:.0%} ({above.clock - 1:.0%}) above the networks alone, at most {ABOVE_FORWARDS:.0%} "
        f"of CPU seconds{'' if kept else '   BROKEN'}",
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
