# SPDX-License-Identifier: Apache-2.0
"""The worst pictures of each autoencoder: crops of all autoencoders at the place of the largest error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcae.benchmark.entries import Protocol
from evaluation.comparison.pictures import Pictures
from evaluation.quality.one_pass import random_numbers
from evaluation.quality.reconstruction import Reconstruction, reconstruct_pixels

CROP_SHARE = 4  # a crop's side is this part of the picture's
SMALLEST_CROP = 32


@dataclass(frozen=True)
class Region:
    """A square within a picture, in pixels."""

    top: int
    left: int
    side: int

    def of(self, image: Tensor) -> Tensor:
        """Crop an image [..., H, W] to the square."""
        return image[..., self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class WorstImage:
    """One of an autoencoder's worst pictures.

    Attributes:
        autoencoder: name.
        index: of the picture.
        region: of that autoencoder's largest error.
        original: uint8 [3, R, R].
        reconstructions: autoencoder to uint8 [3, R, R].
    """

    autoencoder: str
    index: int
    region: Region
    original: Tensor
    reconstructions: dict[str, Tensor]


def ranking_metric(measured: Mapping[str, Reconstruction]) -> str:
    """Return the metric that ranks the pictures: LPIPS if it was measured, otherwise PSNR."""
    return "lpips" if all("lpips" in each.per_image for each in measured.values()) else "psnr"


def worst_indices(measured: Reconstruction, metric: str, count: int) -> list[int]:
    """Return indices of the pictures of highest LPIPS, or of lowest PSNR, the worst first; no perfect ones."""
    order = torch.argsort(measured.per_image[metric], descending=metric == "lpips", stable=True).tolist()
    return [index for index in order if measured.per_image["psnr"][index].isfinite()][:count]


def worst_images(
    pictures: Pictures,
    protocol: Protocol,
    measured: Mapping[str, Reconstruction],
    load: Callable[[str], tuple[nn.Module, str | None]],
    count: int,
    batch_size: int,
    device: str | torch.device,
) -> dict[str, list[WorstImage]]:
    """Return the worst pictures of each autoencoder, with the reconstructions of all autoencoders.

    Autoencoders are loaded one after the other and see the batches and random numbers that they were measured with.

    Args:
        pictures: that they were measured on.
        protocol: that they were measured by.
        measured: values of every picture, by autoencoder.
        load: returns an autoencoder by name, on its device, and its padding.
        count: pictures per autoencoder.
        batch_size: that they were measured with.
        device: of the autoencoders.
    """
    metric = ranking_metric(measured)
    chosen = {name: worst_indices(each, metric, count) for name, each in measured.items()}
    wanted = sorted({index for indices in chosen.values() for index in indices})
    originals: dict[int, Tensor] = {}
    outputs: dict[int, dict[str, Tensor]] = {index: {} for index in wanted}
    for name in measured:
        autoencoder, padding = load(name)
        for start in sorted({index // batch_size * batch_size for index in wanted}):
            inputs = pictures.batch(range(start, min(start + batch_size, len(pictures))))
            with random_numbers(0, start):
                results = reconstruct_pixels(autoencoder, inputs.to(device), padding, protocol.quantisation).cpu()
            for index in wanted:
                if start <= index < start + batch_size:
                    originals[index] = inputs[index - start]
                    outputs[index][name] = results[index - start]
        del autoencoder
    return {
        name: [
            WorstImage(name, index, region_of_error(originals[index], outputs[index][name]), originals[index],
                       outputs[index])
            for index in indices
        ]
        for name, indices in chosen.items()
    }  # fmt: skip


def region_of_error(original: Tensor, reconstruction: Tensor) -> Region:
    """Return the square, a quarter of the side wide, with the greatest squared error of uint8 images [3, H, W]."""
    height, width = original.shape[-2:]
    side = min(max(min(height, width) // CROP_SHARE, SMALLEST_CROP), height, width)
    error = (original.float() - reconstruction.float()).square().mean(0)
    sums = F.avg_pool2d(error[None, None], side, stride=1)[0, 0]
    place = int(sums.argmax())
    return Region(place // sums.shape[1], place % sums.shape[1], side)
