# SPDX-License-Identifier: Apache-2.0
"""The pictures that an autoencoder does worst, and where in them: crops of all autoencoders side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.comparison.measuring import Measured, Metrics

CROP_SHARE = 4  # a crop's side is this part of the picture's
SMALLEST_CROP = 32


@dataclass(frozen=True)
class Region:
    """A square within a picture, in pixels."""

    top: int
    left: int
    side: int

    def of(self, image: Tensor) -> Tensor:
        """The square of an image [..., H, W]."""
        return image[..., self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class WorstImage:
    """One of an autoencoder's worst pictures.

    Attributes:
        autoencoder: whose it is.
        index: of the picture.
        region: where that autoencoder is furthest off.
        original: uint8 [3, R, R].
        reconstructions: autoencoder to uint8 [3, R, R].
    """

    autoencoder: str
    index: int
    region: Region
    original: Tensor
    reconstructions: dict[str, Tensor]


def ranking_metric(measured: Mapping[str, Measured]) -> str:
    """What decides which pictures are worst: LPIPS if it was measured, otherwise PSNR."""
    return "lpips" if all("lpips" in each.per_image for each in measured.values()) else "psnr"


def worst_indices(measured: Measured, metric: str, count: int) -> list[int]:
    """Indices of the pictures of highest LPIPS, or of lowest PSNR or SSIM, the worst first; no perfect ones."""
    order = torch.argsort(measured.per_image[metric], descending=metric == "lpips", stable=True).tolist()
    return [index for index in order if measured.per_image["psnr"][index].isfinite()][:count]


def worst_images(
    metrics: Metrics,
    measured: Mapping[str, Measured],
    load: Callable[[str], tuple[nn.Module, str | None]],
    count: int,
    batch_size: int,
) -> dict[str, list[WorstImage]]:
    """For each autoencoder its worst pictures, with what every other makes of them.

    Autoencoders are loaded one after the other and see the very batches that they were measured on, so that what is
    shown is what was measured.

    Args:
        metrics: what they were measured with.
        load: an autoencoder by name, on its device, and its padding.
        count: pictures per autoencoder.
        batch_size: as it was measured with.
    """
    metric = ranking_metric(measured)
    chosen = {name: worst_indices(each, metric, count) for name, each in measured.items()}
    wanted = sorted({index for indices in chosen.values() for index in indices})
    originals: dict[int, Tensor] = {}
    outputs: dict[int, dict[str, Tensor]] = {index: {} for index in wanted}
    for name in measured:
        autoencoder, padding = load(name)
        for start in sorted({index // batch_size * batch_size for index in wanted}):
            inputs = metrics.pictures.batch(range(start, min(start + batch_size, len(metrics.pictures))))
            results = metrics.reconstruct(autoencoder, inputs.to(metrics.device), start, padding).cpu()
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
    """The square, a quarter of the picture's side, over which the squared error of uint8 [3, H, W] is greatest."""
    height, width = original.shape[-2:]
    side = min(max(min(height, width) // CROP_SHARE, SMALLEST_CROP), height, width)
    error = (original.float() - reconstruction.float()).square().mean(0)
    sums = F.avg_pool2d(error[None, None], side, stride=1)[0, 0]
    place = int(sums.argmax())
    return Region(place // sums.shape[1], place % sums.shape[1], side)
