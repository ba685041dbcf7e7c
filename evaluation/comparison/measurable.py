# SPDX-License-Identifier: Apache-2.0
"""Which metrics can be measured on a folder of pictures here, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dcae.benchmark.entries import Protocol
from dcae.weights.catalogue import WeightsError, find
from evaluation.comparison.pictures import Pictures
from evaluation.features.fingerprints import weights_identity
from evaluation.metrics.registry import ImageMetric, QualityMetric, SetMetric

# The standard error of an rFID comes from 64 groups of images: four in each. Fewer images say next to nothing.
FEWEST_FOR_RFID = 256


def measurable(
    protocol: Protocol, metrics: Sequence[QualityMetric], pictures: Pictures
) -> tuple[Protocol, list[QualityMetric], list[str]]:
    """Return the protocol and the metrics without those that cannot be measured, and a line for each left out."""
    kept, subsets, lines = [], {}, []
    for metric in metrics:
        if reason := why_left_out(metric, protocol, pictures):
            title = metric.of_reconstructions().title if isinstance(metric, SetMetric) else metric.title
            lines.append(f"Left out: metric {title}: {reason}")
        else:
            kept.append(metric)
    for name, subset in (protocol.subsets or {}).items():
        if reason := why_missing(find, subset.weights):
            lines.append(f"Left out: pictures with {name}: {reason}")
        else:
            subsets[name] = subset
    changes = {"subsets": subsets or None, "reconstruction_images": len(pictures)}
    return protocol.model_copy(update=changes), kept, lines


def why_left_out(metric: QualityMetric, protocol: Protocol, pictures: Pictures) -> str | None:
    """Return why a metric cannot be measured on these pictures here; ``None`` if it can."""
    if isinstance(metric, SetMetric) and len(pictures) < FEWEST_FOR_RFID:
        return f"{len(pictures)} pictures are too few, it needs {FEWEST_FOR_RFID}"
    if isinstance(metric, ImageMetric) and (too_small := metric.too_small(pictures.resolution)):
        return too_small
    weights = metric.weights(protocol)
    return why_missing(weights_identity, weights) if weights else None


def why_missing(lookup: Callable, weights: object) -> str | None:
    """Return the error of looking up weights, or ``None`` if they are there."""
    try:
        lookup(weights)
    except WeightsError as error:
        return str(error)
    return None
