# SPDX-License-Identifier: Apache-2.0
"""PSNR, SSIM, LPIPS and rFID of autoencoders on a user's pictures, as far as weights and number of pictures allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from dcae.training.perceptual import perceptual_network
from dcae.weights.catalogue import WeightsError
from evaluation.comparison.pictures import Pictures
from evaluation.features.detectors import Detectors, detections_key
from evaluation.features.inception import InceptionFeatures
from evaluation.features.quantisation import to_network, to_uint8
from evaluation.metrics.jackknife import jackknife_frechet, mean_and_standard_error
from evaluation.metrics.psnr_ssim import psnr, ssim
from evaluation.quality.one_pass import reconstruct_images
from evaluation.quality.reconstruction import UNITS
from evaluation.quality.subsets import FEWEST_IMAGES, members, subset_quality

# The error of an rFID is the spread over 64 groups of images: four in each. Fewer say next to nothing.
FEWEST_FOR_RFID = 256


@dataclass(frozen=True)
class Measured:
    """What one autoencoder does to the pictures.

    Attributes:
        per_image: psnr, ssim, lpips as float64 [N], in the order of the pictures.
        values: their means, and rfid; psnr_face and so on, of a protocol with subsets.
    """

    per_image: dict[str, Tensor]
    values: dict[str, Value]


class Metrics:
    """The metrics of a protocol, of which those that cannot be had are left out, with the reason.

    Attributes:
        left_out: metric to why it is not measured.
    """

    def __init__(self, protocol: Protocol, pictures: Pictures, device: str | torch.device = "cpu"):
        self.protocol, self.pictures, self.device = protocol, pictures, torch.device(device)
        self.left_out: dict[str, str] = {}
        self.lpips: nn.Module | None = None
        self.inception: InceptionFeatures | None = None
        try:
            self.lpips = perceptual_network(protocol.lpips).to(self.device)
        except WeightsError as error:
            self.left_out["lpips"] = str(error)
        self.detections = self._detections()
        if len(pictures) < FEWEST_FOR_RFID:
            self.left_out["rfid"] = f"{len(pictures)} pictures are too few, it needs {FEWEST_FOR_RFID}"
            return
        try:
            self.inception = InceptionFeatures(protocol, self.device)
        except WeightsError as error:
            self.left_out["rfid"] = str(error)

    def _detections(self) -> dict[str, Tensor]:
        """Of each subset of the protocol, counts and shares [N, 2]; those that cannot be measured are left out."""
        detectors = Detectors([self.protocol])
        keys = {name: detections_key(name, subset) for name, subset in (self.protocol.subsets or {}).items()}
        self.left_out |= {name: detectors.left_out[key] for name, key in keys.items() if key in detectors.left_out}
        keys = {name: key for name, key in keys.items() if name not in self.left_out}
        if not keys:
            return {}
        parts = [detectors(batch) for _, batch in batches(self.pictures, 16)]
        found = {name: torch.cat([part[key] for part in parts]) for name, key in keys.items()}
        for name, rows in found.items():
            shown = int(members(rows, self.protocol.subsets[name].smallest_share).sum())
            if shown < FEWEST_IMAGES:
                self.left_out[name] = f"{shown} of {len(rows)} pictures show it, it needs {FEWEST_IMAGES}"
        return {name: rows for name, rows in found.items() if name not in self.left_out}

    @cached_property
    def _real(self) -> Tensor:
        """Inception features of the pictures themselves, [N, 2048]."""
        return torch.cat([self.inception(batch).cpu() for _, batch in batches(self.pictures, 16)])

    def reconstruct(self, autoencoder: nn.Module, inputs: Tensor, start: int, padding: str | None) -> Tensor:
        """A batch through an autoencoder, uint8 [B, 3, R, R]; random numbers of one that samples follow from ``start``.

        Raises:
            ValueError: another shape comes out, or values that are not finite.
        """
        with torch.random.fork_rng():
            torch.manual_seed(start)
            return to_uint8(reconstruct_images(autoencoder, inputs, padding), self.protocol.quantisation)

    def measure(self, autoencoder: nn.Module, padding: str | None, batch_size: int) -> Measured:
        """Every picture through an autoencoder.

        Raises:
            ValueError: the autoencoder returns another shape, or values that are not finite.
        """
        rows: dict[str, list[Tensor]] = {}
        features = []
        for start, inputs in batches(self.pictures, batch_size):
            inputs = inputs.to(self.device)
            outputs = self.reconstruct(autoencoder, inputs, start, padding)
            for name, column in self._compare(outputs, inputs).items():
                rows.setdefault(name, []).append(column.cpu())
            if self.inception:
                features.append(self.inception(outputs).cpu())
        per_image = {name: torch.cat(columns) for name, columns in rows.items()}
        values = {name: self._mean(name, column) for name, column in per_image.items()}
        kept = {name: self.protocol.subsets[name] for name in self.detections}
        subsets = self.protocol.model_copy(update={"subsets": kept})
        values |= subset_quality(per_image, values, self.detections, subsets).values
        if self.inception:
            values["rfid"] = self._rfid(torch.cat(features))
        return Measured(per_image, values)

    @torch.inference_mode()
    def _compare(self, outputs: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        found = {"psnr": psnr(outputs, inputs), "ssim": ssim(outputs, inputs)}
        if self.lpips:
            found["lpips"] = self.lpips(to_network(outputs), to_network(inputs)).flatten().double()
        return found

    def _mean(self, name: str, column: Tensor) -> Value:
        mean, error = mean_and_standard_error(column)
        random = name == "lpips" and self.protocol.lpips.random
        return Value(value=mean, n=len(column), standard_error=error, unit=UNITS[name], random_features=random)

    def _rfid(self, features: Tensor) -> Value:
        found = jackknife_frechet(features, self._real, paired=True)
        return Value(
            value=found.estimate,
            n=len(features),
            standard_error=found.standard_error,
            random_features=self.protocol.inception.random,
            leave_group_out=found.left_out,
        )


def batches(pictures: Pictures, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """Index of the first picture and the crops of each batch, uint8 [B, 3, R, R]."""
    for start in range(0, len(pictures), batch_size):
        yield start, pictures.batch(range(start, min(start + batch_size, len(pictures))))
