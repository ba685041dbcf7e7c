# SPDX-License-Identifier: Apache-2.0
"""Metrics on the images that show faces, or text: what users complain of, and means over all images hide.

Which images these are is found on the originals, once for all autoencoders, and stands in the reference features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from evaluation.features.reference import Detections
from evaluation.metrics.jackknife import mean_and_standard_error
from evaluation.quality.distances import Quality

FEWEST_IMAGES = 2


def members(detections: Tensor, smallest_share: float) -> Tensor:
    """Which images belong to a subset, bool [N]: something is found, and covers at least this share of the image."""
    count, share = detections.T
    return (count > 0) & (share >= smallest_share)


def subset_quality(
    per_image: Mapping[str, Tensor], values: Mapping[str, Value], detections: Detections, protocol: Protocol
) -> Quality:
    """``psnr_face``, ``ssim_face``, ``lpips_face``, and so on for each subset.

    Args:
        per_image: psnr, ssim and lpips of every image, float64 [N].
        values: their means, whose units and labels the subsets' have.
        detections: of the protocol's subsets.
        protocol: says which images belong to them.
    """
    found: dict[str, Value] = {}
    excluded: dict[str, str] = {}
    for name, subset in (protocol.subsets or {}).items():
        detected = detections[name]
        if isinstance(detected, str):
            excluded |= {f"{metric}_{name}": detected for metric in per_image}
            continue
        chosen = members(detected, subset.smallest_share)
        if chosen.sum() < FEWEST_IMAGES:
            reason = (
                f"needs at least {FEWEST_IMAGES} images with {name}, there are {int(chosen.sum())} of {len(chosen)}"
            )
            excluded |= {f"{metric}_{name}": reason for metric in per_image}
            continue
        for metric, rows in per_image.items():
            mean, error = mean_and_standard_error(rows[chosen])
            changes = {"value": mean, "n": int(chosen.sum()), "standard_error": error}
            found[f"{metric}_{name}"] = values[metric].model_copy(update=changes)
    return Quality(found, excluded)


def detection_rows(detections: Detections) -> dict[str, Tensor]:
    """Columns for every image: ``face_count`` and ``face_share``, and so on; none of what could not be had."""
    return {
        f"{name}_{column}": rows[:, index]
        for name, rows in detections.items()
        if isinstance(rows, torch.Tensor)
        for index, column in enumerate(("count", "share"))
    }
