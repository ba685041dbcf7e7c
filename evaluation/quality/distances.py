# SPDX-License-Identifier: Apache-2.0
"""From features and per-image rows to values: metrics of sets of images, and means over the images of subsets.

Subsets are the images with faces, with text, ...; which images these are was detected in the originals, once for all
autoencoders, and is stored with the reference features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from evaluation.features.reference import Detections
from evaluation.metrics.frechet import Moments, Reference
from evaluation.metrics.registry import SET_METRICS, QualityMetric, mean_value, set_metrics

FEWEST_OF_SUBSET = 2  # images, for a standard error


@dataclass(frozen=True)
class Quality:
    """Values by name, and those that were left out with the reason."""

    values: dict[str, Value] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    def renamed(self, names: Callable[[str], str]) -> Quality:
        """Return the same under other names."""
        values = {names(name): value for name, value in self.values.items()}
        return Quality(values, {names(name): reason for name, reason in self.excluded.items()})


# --- sets of images -------------------------------------------------------------------------------------------------


def distances(
    features: Mapping[str, Tensor],
    reference: Mapping[str, Reference],
    protocol: Protocol,
    paired: bool,
    device: str | torch.device = "cpu",
    metrics: Sequence[QualityMetric] = SET_METRICS,
) -> Quality:
    """Compute the metrics of sets of images whose features are given.

    Args:
        features: of the evaluated images, [N, d], by feature network (``inception``, ``dinov2``, ``cmmd``).
        reference: of real images, by feature network.
        protocol: says which networks have random weights.
        paired: image i is a reconstruction of image i of the reference; has effect only where all features of the
            reference are kept, and on KID only if the protocol's ``kid_estimator`` is paired.
        device: where the distances are computed.
        metrics: to compute; metrics of single images are passed over.

    Returns:
        ``fid``, ``kid``, ``precision``, ``recall``, ``fid_infinity``, and ``fd_dinov2`` and ``cmmd`` where the protocol
        has these networks. Standard errors are of jackknives, which leave the reference whole unless the sets are
        paired; of precision and recall, of the share alone; of ``fid_infinity``, of the line's fit and of the
        samples.
    """
    values: dict[str, Value] = {}
    excluded: dict[str, str] = {}
    for metric in set_metrics(metrics):
        if metric.features not in features:
            continue
        made, real = features[metric.features].to(device), _on(reference[metric.features], device)
        n = min(len(made), len(real.features))
        if n < metric.fewest:
            excluded[metric.name] = f"needs at least {metric.fewest} images, there are {n}"
            continue
        random = getattr(protocol, metric.features).random
        value = metric.compute(made, real, paired and real.moments is None and metric.pairs(protocol))
        values[metric.name] = value.model_copy(update={"random_features": random})
    return Quality(values, excluded)


def _on(reference: Reference, device: str | torch.device) -> Reference:
    moments = reference.moments
    if moments is not None:
        moments = Moments(moments.count, moments.mean.to(device), moments.scatter.to(device))
    return replace(reference, features=reference.features.to(device), moments=moments)


# --- subsets of images ----------------------------------------------------------------------------------------------


def members(detections: Tensor, smallest_share: float) -> Tensor:
    """Return which images belong to a subset, bool [N]: something is detected and covers at least this share.

    Args:
        detections: number of objects and share of the image that they cover, [N, 2].
        smallest_share: in [0, 1].
    """
    count, share = detections.T
    return (count > 0) & (share >= smallest_share)


def subset_members(detections: Detections, protocol: Protocol) -> dict[str, Tensor | str]:
    """Return the images of each subset of a protocol, bool [N], or the reason why it cannot be measured."""
    found: dict[str, Tensor | str] = {}
    for name, subset in (protocol.subsets or {}).items():
        detected = detections[name]
        found[name] = detected if isinstance(detected, str) else members(detected, subset.smallest_share)
        if not isinstance(detected, str) and (count := int(found[name].sum())) < FEWEST_OF_SUBSET:
            found[name] = f"needs at least {FEWEST_OF_SUBSET} images with {name}, there are {count} of {len(detected)}"
    return found


def subset_quality(
    per_image: Mapping[str, Tensor], values: Mapping[str, Value], detections: Detections, protocol: Protocol
) -> Quality:
    """Return ``psnr_face``, ``ssim_face``, ``lpips_face``, ..., for each subset of a protocol.

    Args:
        per_image: psnr, ssim, lpips, ... of every image, float64 [N].
        values: their means over all images, which give units and labels.
        detections: of the protocol's subsets.
        protocol: defines the subsets.
    """
    found = Quality()
    for name, chosen in subset_members(detections, protocol).items():
        for metric, rows in per_image.items():
            if isinstance(chosen, str):
                found.excluded[f"{metric}_{name}"] = chosen
            else:
                whole = values[metric]
                found.values[f"{metric}_{name}"] = mean_value(rows[chosen], whole.unit, whole.random_features)
    return found


def detection_rows(detections: Detections) -> dict[str, Tensor]:
    """Return per-image columns ``face_count``, ``face_share``, ..., of the subsets whose detector was there."""
    return {
        f"{name}_{column}": rows[:, index]
        for name, rows in detections.items()
        if isinstance(rows, torch.Tensor)
        for index, column in enumerate(("count", "share"))
    }
