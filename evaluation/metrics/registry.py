# SPDX-License-Identifier: Apache-2.0
"""Every quality metric, once: name, heading, direction, unit, range, and how it is computed.

To add a metric of single images, append an ``ImageMetric`` to ``IMAGE_METRICS``: its values appear in records, in the
rows of each image, in the tables of protocols and subsets, in the checks of the controls, and in ``dcae compare``. A
metric of sets of images is a ``SetMetric`` in ``SET_METRICS``. Table 2 and the table of pairs show what ``TABLE_2`` of
``evaluation.tables.metrics`` names.

Tables read this module, so it imports torch only where something is computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dcae.benchmark.record import Value

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dcae.benchmark.entries import NetworkWeights, Protocol
    from evaluation.metrics.frechet import Reference
    from evaluation.metrics.jackknife import Jackknife

    OfPairs = Callable[[Tensor, Tensor], Tensor]  # two batches of uint8 images [B, 3, H, W] -> float64 [B]
    OfSets = Callable[[Tensor, Reference, bool], Value]  # features [N, d], reference, paired: image i of both belongs


@dataclass(frozen=True)
class QualityMetric:
    """A metric as records and tables name it.

    Attributes:
        name: key in records and column of per-image rows.
        title: as texts and headings have it.
        better: the direction of better values.
        decimals: printed, at least.
        unit: of the value in a record.
        range: least and greatest possible value.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    decimals: int
    unit: str = ""
    range: tuple[float, float] = (0.0, math.inf)

    @property
    def heading(self) -> str:
        """Title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def perfect(self) -> float:
        """The value of images that equal their references."""
        return self.range[1] if self.better == "higher" else self.range[0]


@dataclass(frozen=True, kw_only=True)
class ImageMetric(QualityMetric):
    """A metric of each reconstruction and its original; the value of a dataset is the mean over images.

    Attributes:
        load: returns the function that computes it, given the weights of its network (``None`` without a network) and
            the device.
        network: field of ``Protocol`` that names the weights of its network.
        smallest: side of the smallest images that it is defined for, in pixels.
    """

    load: Callable[[NetworkWeights | None, torch.device], OfPairs]
    network: str | None = None
    smallest: int = 1

    def too_small(self, resolution: int) -> str | None:
        """Return why it cannot be measured on images of this many pixels a side; ``None`` if it can."""
        return None if resolution >= self.smallest else f"needs images of {self.smallest} px, these have {resolution}"

    def weights(self, protocol: Protocol) -> NetworkWeights | None:
        """The weights of its network by a protocol; ``None`` without a network."""
        return getattr(protocol, self.network) if self.network else None

    def is_random(self, protocol: Protocol) -> bool:
        """True if its network has random weights by this protocol."""
        weights = self.weights(protocol)
        return bool(weights and weights.random)


@dataclass(frozen=True, kw_only=True)
class SetMetric(QualityMetric):
    """A distance between the features of generated or reconstructed images and those of real ones.

    Attributes:
        compute: the value.
        features: field of ``Protocol`` that names the feature network.
        fewest: images below which it is left out, since it cannot be computed or would say nothing.
        estimator: field of ``Protocol`` that says whether reconstructions are paired with their originals; without one
            they are.
        prefixed: reconstructions compared with their originals get an ``r`` before its name: rFID.
    """

    compute: OfSets
    features: Literal["inception", "dinov2", "cmmd"] = "inception"
    fewest: int = 3
    estimator: Literal["kid_estimator"] | None = None
    prefixed: bool = False

    def pairs(self, protocol: Protocol) -> bool:
        """Return whether reconstructions are paired with their originals by this protocol."""
        return self.estimator is None or getattr(protocol, self.estimator) == "paired"

    def weights(self, protocol: Protocol) -> NetworkWeights | None:
        """The weights of its feature network by a protocol; ``None`` if the protocol does not ask for it."""
        return getattr(protocol, self.features)

    def of_reconstructions(self) -> SetMetric:
        """The metric under its name for reconstructions."""
        return replace(self, name=f"r{self.name}", title=f"r{self.title}") if self.prefixed else self


# --- metrics of pairs of images -------------------------------------------------------------------------------------


def _psnr(weights: None, device: torch.device) -> OfPairs:
    from evaluation.metrics.psnr_ssim import psnr

    return psnr


def _ssim(weights: None, device: torch.device) -> OfPairs:
    from evaluation.metrics.psnr_ssim import ssim

    return ssim


def _lpips(weights: NetworkWeights, device: torch.device) -> OfPairs:
    """LPIPS 0.1 of images in [-1, 1] (Zhang et al. 2018)."""
    import torch

    from dcae.training.perceptual import perceptual_network
    from evaluation.features.quantisation import to_network
    from evaluation.metrics.psnr_ssim import require_uint8

    network = perceptual_network(weights).to(device, memory_format=torch.channels_last)

    def lpips(images: Tensor, references: Tensor) -> Tensor:
        require_uint8(images, references)
        pair = (to_network(each).contiguous(memory_format=torch.channels_last) for each in (images, references))
        return network(*pair).flatten().double()  # from [B, 1, 1, 1]

    return lpips


IMAGE_METRICS = (
    ImageMetric("psnr", "PSNR", "higher", 2, unit="dB", load=_psnr),
    ImageMetric("ssim", "SSIM", "higher", 2, range=(-1.0, 1.0), load=_ssim, smallest=6),
    ImageMetric("lpips", "LPIPS", "lower", 3, load=_lpips, network="lpips", smallest=32),
)


# --- metrics of sets of images --------------------------------------------------------------------------------------


def _with_error(found: Jackknife, n: int) -> Value:
    left_out = [*map(float, found.left_out)]
    return Value(value=found.estimate, n=n, standard_error=found.standard_error, leave_group_out=left_out)


def _frechet(features: Tensor, reference: Reference, paired: bool) -> Value:
    from evaluation.metrics.jackknife import jackknife_frechet

    return _with_error(jackknife_frechet(features, reference.whole, paired), len(features))


def _frechet_infinity(features: Tensor, reference: Reference, paired: bool) -> Value:
    from evaluation.metrics.fid_infinity import frechet_infinity

    value, error = frechet_infinity(features, reference.whole, paired)
    return Value(value=value, n=len(features), standard_error=error)


def _kid(features: Tensor, reference: Reference, paired: bool) -> Value:
    from evaluation.metrics.kid_cmmd import kernel_inception_distance

    return _with_error(kernel_inception_distance(features, reference.features, paired), len(features))


def _cmmd(features: Tensor, reference: Reference, paired: bool) -> Value:
    from evaluation.metrics.kid_cmmd import clip_mmd

    return _with_error(clip_mmd(features, reference.features), len(features))


def _share(which: Literal[0, 1]) -> OfSets:
    """Precision (0) or recall (1)."""

    def compute(features: Tensor, reference: Reference, paired: bool) -> Value:
        from evaluation.metrics.precision_recall import precision_recall

        return mean_value(precision_recall(features, reference.features)[which])

    return compute


def mean_value(rows: Tensor, unit: str = "", random_features: bool = False) -> Value:
    """The mean over rows [N] and its standard error; infinite rows are counted, and left out of both."""
    from evaluation.metrics.jackknife import mean_and_standard_error

    mean, error = mean_and_standard_error(rows.double())
    return Value(
        value=mean,
        n=len(rows),
        standard_error=error,
        unit=unit,
        random_features=random_features,
        unchanged=int(rows.isinf().sum()),
    )


FID = SetMetric("fid", "FID", "lower", 2, compute=_frechet, prefixed=True)
SET_METRICS = (
    FID,
    SetMetric("kid", "KID", "lower", 4, compute=_kid, estimator="kid_estimator"),
    # Precision and recall look at the third nearest neighbour.
    SetMetric("precision", "Precision", "higher", 3, range=(0.0, 1.0), compute=_share(0), fewest=4),
    SetMetric("recall", "Recall", "higher", 3, range=(0.0, 1.0), compute=_share(1), fewest=4),
    # The smallest subsets are then 5,000, as its authors', for the 2048 dimensions of Inception's features.
    SetMetric("fid_infinity", "FID∞", "lower", 2, compute=_frechet_infinity, fewest=25_000, prefixed=True),
    SetMetric("fd_dinov2", "FD-DINOv2", "lower", 2, compute=_frechet, features="dinov2"),
    SetMetric("cmmd", "CMMD", "lower", 3, compute=_cmmd, features="cmmd"),
)
CLIP_SCORE = QualityMetric("clip_score", "CLIP score", "higher", 2, range=(-100.0, 100.0))  # of samples and their texts
METRICS: tuple[QualityMetric, ...] = (FID, *IMAGE_METRICS, *SET_METRICS[1:])


def image_metrics(metrics: Sequence[QualityMetric]) -> list[ImageMetric]:
    """Those of single images."""
    return [metric for metric in metrics if isinstance(metric, ImageMetric)]


def set_metrics(metrics: Sequence[QualityMetric]) -> list[SetMetric]:
    """Those of sets of images."""
    return [metric for metric in metrics if isinstance(metric, SetMetric)]


def metrics_of_reconstructions(metrics: Sequence[QualityMetric] = METRICS) -> list[QualityMetric]:
    """All under their names for reconstructions: rfid, psnr, ssim, lpips, kid, …."""
    return [metric.of_reconstructions() if isinstance(metric, SetMetric) else metric for metric in metrics]


def bounds(name: str) -> tuple[float, float]:
    """Return the least and the greatest possible value of a record's name, such as ``rfid`` or ``psnr_face``.

    Unbiased estimators (KID, FID∞) may be negative; of other names nothing is known.
    """
    for metric in (*METRICS, CLIP_SCORE):
        if re.fullmatch(rf"r?{metric.name}(_(?!infinity).*)?", name) and metric.name not in ("kid", "fid_infinity"):
            return metric.range
    return -math.inf, math.inf
