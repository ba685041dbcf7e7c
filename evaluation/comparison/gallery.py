# SPDX-License-Identifier: Apache-2.0
"""The pictures of a comparison with all their reconstructions, the worst first, as a page holds them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from PIL import Image
from torch import Tensor, nn

from dcae.benchmark.entries import Protocol
from evaluation.comparison.pictures import Pictures
from evaluation.metrics.registry import IMAGE_METRICS, ImageMetric
from evaluation.page.pictures import Gallery, Strip, data_url
from evaluation.quality.one_pass import random_numbers
from evaluation.quality.reconstruction import Reconstruction, reconstruct_pixels
from evaluation.tables.controls import CONTROLS

# A page has at most LARGEST bytes of pictures (a third more in its file): the worst without loss, in about LOSSLESS of
# them, and the others compressed and as small as needed.
LOSSLESS, LARGEST = 10_000_000, 18_000_000
BYTES_PER_PIXEL = 0.15  # of a compressed picture, roughly
SMALLEST_SIDE = 64
ORIGINAL = "original"


def ranking_metric(measured: Mapping[str, Reconstruction]) -> ImageMetric:
    """Return the metric that ranks the pictures: LPIPS if it was measured with trained weights, otherwise PSNR."""
    values = [each.values.get("lpips") for each in measured.values()]
    trained = all(value and not value.random_features for value in values)
    return next(metric for metric in IMAGE_METRICS if metric.name == ("lpips" if trained else "psnr"))


def rank(measured: Mapping[str, Reconstruction]) -> list[tuple[int, float]]:
    """Return each picture once, the worst first: its index and its mean over the autoencoders that are no controls.

    The mean leaves out infinite values; a picture that every autoencoder returns unchanged is the last.
    """
    metric = ranking_metric(measured)
    judged = [each for name, each in measured.items() if name not in CONTROLS] or list(measured.values())
    values = torch.stack([each.per_image[metric.name] for each in judged])
    means = values.where(values.isfinite(), torch.nan).nanmean(0).nan_to_num(torch.inf)
    order = torch.argsort(means, descending=metric.better == "lower", stable=True).tolist()
    return [(index, float(means[index])) for index in order]


@dataclass
class _Tiles:
    """The original and the reconstructions of one picture, encoded; ``divisor``: of its side, 0 without loss."""

    divisor: int
    encoded: list[bytes] = field(default_factory=list)

    def add(self, image: Tensor) -> None:
        self.encoded.append(_webp(image, self.divisor))

    @property
    def size(self) -> int:
        return sum(map(len, self.encoded))


def _webp(image: Tensor, divisor: int) -> bytes:
    """Return uint8 [3, H, W] as a WebP file: without loss, or compressed at a part of its side."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    settings = {"lossless": True, "quality": 30, "method": 2}
    if divisor:
        picture, settings = picture.reduce(divisor), {"quality": 85}
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", **settings)
    return buffer.getvalue()


def _divisor(count: int, side: int) -> int:
    """Return the power of two by which the sides of so many compressed tiles are divided, for the size of a page."""
    divisor = 1
    while side // divisor > SMALLEST_SIDE and count * (side // divisor) ** 2 * BYTES_PER_PIXEL > LARGEST - LOSSLESS:
        divisor *= 2
    return divisor


def make_gallery(
    pictures: Pictures,
    protocol: Protocol,
    measured: Mapping[str, Reconstruction],
    metrics: Sequence[ImageMetric],
    load: Callable[[str], tuple[nn.Module, str | None]],
    count: int,
    batch_size: int,
    device: str | torch.device,
) -> Gallery:
    """Return a strip for each picture, the worst first: the original and what each autoencoder made of it.

    Autoencoders are loaded one after the other and see the batches and random numbers that they were measured with.

    Args:
        pictures: that they were measured on.
        protocol: that they were measured by.
        measured: values of every picture, by autoencoder.
        metrics: of single images, whose values are told.
        load: returns an autoencoder by name, on its device, and its padding.
        count: pictures to show at most.
        batch_size: that they were measured with.
        device: of the autoencoders.
    """
    ranked = rank(measured)[:count]
    wanted = {index for index, _ in ranked}
    originals = {index: pictures.batch([index])[0] for index in wanted}
    columns = 1 + len(measured)
    sizes = accumulate(columns * len(_webp(originals[index], 0)) for index, _ in ranked)
    whole = sum(size <= LOSSLESS for size in sizes)
    divisor = _divisor((len(ranked) - whole) * columns, pictures.resolution)
    tiles = {index: _Tiles(divisor if place >= whole else 0) for place, (index, _) in enumerate(ranked)}
    for index, each in tiles.items():
        each.add(originals[index])
    for name in measured:
        autoencoder, padding = load(name)
        for start in sorted({index // batch_size * batch_size for index in wanted}):
            inputs = pictures.batch(range(start, min(start + batch_size, len(pictures))))
            with random_numbers(0, start):
                results = reconstruct_pixels(autoencoder, inputs.to(device), padding, protocol.quantisation).cpu()
            for index, image in enumerate(results, start):
                if index in wanted:
                    tiles[index].add(image)
        del autoencoder
    affordable = sum(size <= LARGEST for size in accumulate(tiles[index].size for index, _ in ranked))
    strips = [_strip(pictures, index, mean, tiles[index], measured, metrics) for index, mean in ranked[:affordable]]
    ranking = ranking_metric(measured)
    note = (
        f"{len(strips)} of {len(pictures)} pictures, the {'lowest' if ranking.better == 'higher' else 'highest'} "
        f"{ranking.title} first (mean over the autoencoders, controls aside). "
    )
    if compressed := sum(bool(tiles[index].divisor) for index, _ in ranked[:affordable]):
        side = pictures.resolution // divisor
        note += f"The last {compressed} are compressed, at {side} px, so that the page stays small. "
    title = f"{pictures.folder.absolute().name} at {pictures.resolution} px"
    note += "per_image.csv has the values of every picture."
    return Gallery(title, pictures.resolution, strips, note, [ORIGINAL, *measured])


def _strip(
    pictures: Pictures,
    index: int,
    mean: float,
    tiles: _Tiles,
    measured: Mapping[str, Reconstruction],
    metrics: Sequence[ImageMetric],
) -> Strip:
    images = [data_url(each, "webp") for each in tiles.encoded]
    values = ["", *(_values(each, index, metrics) for each in measured.values())]
    ranking = ranking_metric(measured)
    remark = _number(mean, ranking) if math.isfinite(mean) else "unchanged"
    return Strip(pictures.names[index], remark + ", compressed" * bool(tiles.divisor), images, values=values)


def _values(measured: Reconstruction, index: int, metrics: Sequence[ImageMetric]) -> str:
    told = []
    for metric in metrics:
        random = " [random features]" * measured.values[metric.name].random_features
        told.append(_number(float(measured.per_image[metric.name][index]), metric) + random)
    return ", ".join(told)


def _number(value: float, metric: ImageMetric) -> str:
    """Return a value with three digits."""
    return f"{metric.title} {value:.3g} {metric.unit}".strip().replace("inf", "∞")
