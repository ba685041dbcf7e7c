# SPDX-License-Identifier: Apache-2.0
"""``make bench``: the Fréchet distance against scipy's matrix square root, and one pass against tool by tool.

Tool by tool means what one does without this project: write reconstructions as PNG, run torch-fidelity's extractor on
both folders, then lpips, then torchmetrics' SSIM and PSNR, each on the images of the folders. Loading of networks and
the distance itself are left out on both sides. Each side runs as its users run it, in a process of its own: the pass,
and the networks that it is held to, keep freed memory, as ``dcae evaluate`` does; the tools do not. The best call of
each counts, and where a promise is broken both sides get another turn, since another program on the machine slows
whatever runs beside it.

The pass has the features of the originals from a file that is made once for all autoencoders, while the tools extract
both folders; what the ratio is where they keep those features, too, is printed beside it.

Everything runs on one thread. What is promised is promised of CPU seconds, which depend little on what else the
machine does; the same numbers by the clock stand beside them in brackets, and are equal on a machine that does nothing
else and waits for no disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

from bench.promises import Verdict, add_tolerance, judge
from bench.timing import in_a_new_process
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import FolderEntry, Protocol
from dcae.data.dataset import ImageDataset
from dcae.data.loading import open_dataset
from dcae.training.distributed import keep_freed_memory
from dcae.training.perceptual import perceptual_network
from evaluation.features.inception import load_inception
from evaluation.features.quantisation import to_network
from evaluation.features.reference import batches
from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.quality.one_pass import OnePass, measure
from evaluation.quality.reconstruction import reconstruct_pixels

RESOLUTION, IMAGES, BATCH = 256, 32, 16
CALLS = {"pass": 4, "tools": 2}  # in a turn; the tools take longest
MOST_TURNS = 4
PROTOCOL, AUTOENCODER = "random-features", "blur"
DIMENSIONS, SAMPLES, DISTANCES = 2048, 5000, 2
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

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu - other.cpu, self.clock - other.clock)

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


def compare_frechet(tolerance: float) -> Verdict:
    """Print the time of both ways at full rank and how far they differ; the verdict on both."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -1.5, DIMENSIONS, dtype=torch.float64)
    a, b = (
        Moments.of(torch.randn(SAMPLES, DIMENSIONS, generator=generator, dtype=torch.float64) * spread * scale)
        for scale in (1.0, 1.2)
    )
    best = NEVER
    for _ in range(DISTANCES):
        seconds, ours = timed(frechet_distance, a.mean, a.covariance, b.mean, b.covariance)
        best = best.best(seconds)
    product = a.covariance.numpy() @ b.covariance.numpy()
    of_scipy, root = timed(scipy.linalg.sqrtm, product)
    difference = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    theirs = float(difference) - 2 * float(np.trace(root).real)
    faster, off = of_scipy.over(best), abs(ours / theirs - 1)
    verdict = judge(faster.cpu / FASTER_THAN_SQRTM, tolerance) if off <= EQUAL_TO_SQRTM else Verdict.BROKEN
    print(
        f"Frechet distance, {DIMENSIONS} dimensions, CPU seconds (on the clock): {best.cpu:.2f} ({best.clock:.2f}), "
        f"scipy.linalg.sqrtm {of_scipy.cpu:.2f} ({of_scipy.clock:.2f}): {faster.cpu:.1f} ({faster.clock:.1f}) times as "
        f"fast, promised {FASTER_THAN_SQRTM:g} of CPU seconds; equal to {off:.0e}{verdict}",
        flush=True,
    )
    return verdict


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


def write_photographs(folder: Path) -> None:
    """Crops of scikit-image's photographs, as PNG files."""
    crops = open_dataset(Config().entry("datasets", "photographs"), "validation", RESOLUTION)
    for start, batch in enumerate(batches(crops, IMAGES, BATCH)):
        write_images(batch, folder / "validation", start * BATCH)


def photographs(folder: Path) -> ImageDataset:
    """What was written, as a data set on disk."""
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
    def run(self, autoencoder: nn.Module, dataset: ImageDataset, real: Path, made: Path) -> Seconds:
        """One tool after the other; what the features of the real images took of it."""
        from torch_fidelity.utils import extract_featuresdict_from_input_id

        for start, batch in enumerate(batches(dataset, IMAGES, BATCH)):
            write_images(reconstruct_pixels(autoencoder, batch), made, start * BATCH)
        options = {"batch_size": BATCH, "cuda": False, "save_cpu_ram": True, "verbose": False}
        extract_featuresdict_from_input_id(1, self.extractor, input1=str(made), **options)
        of_real, _ = timed(lambda: extract_featuresdict_from_input_id(2, self.extractor, input2=str(real), **options))
        for x, y in zip(read_images(made), read_images(real), strict=True):
            self.lpips(to_network(x), to_network(y))
        for metric in self.metrics:
            for x, y in zip(read_images(made), read_images(real), strict=True):
                metric.update(x, y)
            metric.compute()
        return of_real


@torch.inference_mode()
def forwards(one_pass: OnePass, dataset: ImageDataset) -> Seconds:
    """What the network forwards of a pass take alone, their inputs made before."""
    (inception,) = one_pass.extractor.networks.values()
    lpips = perceptual_network(one_pass.protocols[0].lpips).to(memory_format=torch.channels_last)
    seconds = Seconds(0, 0)
    for batch in batches(dataset, IMAGES, BATCH):
        network_input = inception.resize(batch).contiguous(memory_format=torch.channels_last)
        pixels = to_network(batch).contiguous(memory_format=torch.channels_last)
        seconds += timed(inception.network, network_input)[0]
        seconds += timed(lpips, pixels, pixels)[0]
    return seconds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and warnings of the tools."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def turn_of_pass(folder: Path) -> tuple[Seconds, Seconds]:
    """What one pass takes, and the forwards of its networks alone."""
    keep_freed_memory()
    with quiet():
        autoencoder, dataset = load(AUTOENCODER).eval(), photographs(folder)
        one_pass = OnePass([Config().entry("protocols", PROTOCOL)])
        measure(one_pass, autoencoder, dataset, 0, BATCH, BATCH)  # the first call of a network is slower
        best = alone = NEVER
        for _ in range(CALLS["pass"]):
            best = best.best(timed(measure, one_pass, autoencoder, dataset, 0, IMAGES, BATCH)[0])
            alone = alone.best(forwards(one_pass, dataset))
    return best, alone


def turn_of_tools(folder: Path) -> tuple[Seconds, Seconds]:
    """What the tools take one after the other: all they do, and without the features of the originals."""
    with quiet(), tempfile.TemporaryDirectory() as name:
        autoencoder, dataset = load(AUTOENCODER).eval(), photographs(folder)
        tools = Tools(Config().entry("protocols", PROTOCOL), Path(name))
        best = without = NEVER
        for _ in range(CALLS["tools"]):
            seconds, of_real = timed(tools.run, autoencoder, dataset, folder / "validation", Path(name) / "made")
            best, without = best.best(seconds), without.best(seconds - of_real)
    return best, without


def compare_pass(tolerance: float) -> Verdict:
    """Print images per second of one pass, of the tools, and of the networks alone; the verdict on both promises."""
    one_pass = alone = tools = cached = NEVER
    times_promised, turns = 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        write_photographs(Path(name))
        while times_promised < 1 and turns < MOST_TURNS:
            turns += 1
            seconds, seconds_alone = in_a_new_process(turn_of_pass, Path(name), environment=ONE_THREAD)
            one_pass, alone = one_pass.best(seconds), alone.best(seconds_alone)
            seconds, seconds_cached = in_a_new_process(turn_of_tools, Path(name), environment=ONE_THREAD)
            tools, cached = tools.best(seconds), cached.best(seconds_cached)
            faster, above = tools.over(one_pass), one_pass.over(alone)
            times_promised = min(faster.cpu / FASTER_THAN_TOOLS, (1 + ABOVE_FORWARDS) / above.cpu)
    verdict = judge(times_promised, tolerance)
    rates = ", ".join(
        f"{name} {IMAGES / each.cpu:.2f} ({IMAGES / each.clock:.2f})"
        for name, each in (("one pass", one_pass), ("tool by tool", tools), ("network forwards", alone))
    )
    print(
        f"images per CPU second (per second on the clock) at {RESOLUTION} px: {rates}; "
        f"{faster.cpu:.2f} ({faster.clock:.2f}) times as fast as tool by tool, promised {FASTER_THAN_TOOLS:g} of CPU "
        f"seconds ({cached.over(one_pass).cpu:.2f} times where the tools, too, keep features of the originals); "
        f"{above.cpu - 1:.0%} ({above.clock - 1:.0%}) above the networks alone, at most {ABOVE_FORWARDS:.0%} "
        f"of CPU seconds; turns: {turns}{verdict}",
        flush=True,
    )
    return verdict


def main() -> int:
    """Print every comparison; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["pass", "frechet"], help="one of the two comparisons")
    add_tolerance(parser)
    arguments = parser.parse_args()
    print(f"evaluation on one thread of a CPU, torch {torch.__version__}, scipy {scipy.__version__}", flush=True)
    verdicts = []
    if arguments.only in (None, "pass"):
        verdicts.append(compare_pass(arguments.tolerance))
    if arguments.only in (None, "frechet"):
        verdicts.append(in_a_new_process(compare_frechet, arguments.tolerance, environment=ONE_THREAD))
    return int(Verdict.BROKEN in verdicts)


if __name__ == "__main__":
    sys.exit(main())
