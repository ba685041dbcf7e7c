# SPDX-License-Identifier: Apache-2.0
"""Values over several seeds, and the effect between two values: a difference or a ratio, with its 95 % interval.

An interval covers the choice of images, and, where both sides were trained with several seeds, that of seeds: the
variances of images and of each side's seeds add up, with Satterthwaite's degrees of freedom. Seeds share their images,
so that the error over images is that of the mean over seeds, image by image or group by group where possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

import numpy as np
from scipy.stats import t as student

from dcae.benchmark.record import Value
from evaluation.metrics.jackknife import Jackknife, group_sizes
from evaluation.metrics.paired import CONFIDENCE

Scale = Literal["difference", "ratio"]
PerImage = Mapping[str, np.ndarray]
TRANSFORMS: dict[Scale, Callable[[float], float]] = {"difference": float, "ratio": math.log}


class MeanOverSeeds(Value):
    """The mean of a value over trainings that differ in their seeds.

    ``standard_error`` covers images and seeds, ``error_of_images`` images alone; ``seeds`` has each training's value.
    """

    seeds: list[float]
    error_of_images: float | None


def values_of_seeds(value: Value) -> list[float]:
    """Return the value of each training; a value without seeds is that of one."""
    return value.seeds if isinstance(value, MeanOverSeeds) else [value.value]


def error_of_images(value: Value) -> float | None:
    """Return the standard error over images, or over the repeats of a measurement of speed."""
    return value.error_of_images if isinstance(value, MeanOverSeeds) else value.standard_error


def mean_over_seeds(values: Sequence[Value], per_image: np.ndarray | None = None) -> Value:
    """Return the mean of one value over trainings that share their images.

    Args:
        values: of each training.
        per_image: mean over trainings of each image's value. Without these, and without groups, the error over images
            is at most the mean of the errors, which is taken.
    """
    first = values[0]
    if len(values) == 1:
        return first
    found = [each.value for each in values]
    groups = None
    if all(each.leave_group_out and each.n == first.n for each in values):
        groups = [fmean(without) for without in zip(*(each.leave_group_out for each in values), strict=True)]
        of_images = Jackknife(fmean(found), groups, group_sizes(first.n, len(groups))).standard_error
    elif per_image is not None and np.isfinite(per_image).sum() > 1:
        finite = per_image[np.isfinite(per_image)]
        of_images = float(finite.std(ddof=1)) / math.sqrt(len(finite))
    else:
        errors = [each.standard_error for each in values]
        of_images = None if None in errors else fmean(errors)
    of_seeds = math.sqrt(variance(found) / len(found)) if np.isfinite(found).all() else math.nan
    return MeanOverSeeds(
        **first.model_dump(exclude={"value", "standard_error", "leave_group_out", "n"}),
        value=fmean(found),
        n=min(each.n for each in values),
        standard_error=None if of_images is None else math.hypot(of_images, of_seeds),
        leave_group_out=groups,
        seeds=found,
        error_of_images=of_images,
    )


@dataclass(frozen=True)
class Effect:
    """The difference or ratio of two values, and its 95 % interval.

    Attributes:
        standard_error: of the difference, or of the logarithm of the ratio.
        n: number of images; the smaller one.
        seeds: number of trainings of either side.
        covers_seeds: the interval is over seeds as well as images.
        paired: the values are over the same images, whose choice cancels.
    """

    scale: Scale
    estimate: float
    low: float
    high: float
    standard_error: float
    n: int
    seeds: tuple[int, int]
    covers_seeds: bool
    paired: bool


def effect(
    a: Value,
    b: Value,
    scale: Scale = "difference",
    rows: tuple[np.ndarray, np.ndarray] | None = None,
    same_images: bool = False,
    exact: bool = False,
) -> Effect | None:
    """Compare a with b.

    Args:
        a, b: by one protocol.
        scale: a − b, or a / b.
        rows: both values of every image, of the same images; used for a difference.
        same_images: both are over the same images, so that they may be compared group by group.
        exact: counts, which have no error.

    Returns:
        ``None`` if the error is not known, if a value is infinite, or for the ratio of values that are not positive.
    """
    trainings = [values_of_seeds(each) for each in (a, b)]
    everything = [a.value, b.value, *trainings[0], *trainings[1]]
    if not all(math.isfinite(each) for each in everything) or (scale == "ratio" and min(everything) <= 0):
        return None
    transform = TRANSFORMS[scale]
    estimate, n = a.value - b.value, min(a.n, b.n)
    paired = _over_same_images(a, b, scale, rows, same_images)
    if paired:
        estimate, n, *part = paired
        parts = [tuple(part)]
    else:
        parts = [(0.0, 1)] if exact else _over_images(a, b, scale)
    if parts is None:
        return None
    of_seeds = [(variance(map(transform, of)) / len(of), len(of) - 1) for of in trainings if len(of) > 1]
    parts = [*parts, *of_seeds]
    total = sum(part for part, _ in parts)
    error = math.sqrt(total)
    degrees = total**2 / sum(part**2 / of for part, of in parts) if total else 1
    half = float(student.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    if scale == "ratio":
        middle, spread = a.value / b.value, math.exp(min(half, 700.0))
        bounds = middle / spread, middle * spread
    else:
        middle, bounds = estimate, (estimate - half, estimate + half)
    counts = len(trainings[0]), len(trainings[1])
    return Effect(scale, middle, *bounds, error, n, counts, len(of_seeds) == 2, bool(paired))


def _over_same_images(
    a: Value, b: Value, scale: Scale, rows: tuple[np.ndarray, np.ndarray] | None, same_images: bool
) -> tuple[float, int, float, int] | None:
    """Difference, number of images, variance and degrees of freedom over images that both sides share.

    ``None`` if they cannot be paired. Images with an infinite value, as the PSNR of an unchanged one, are left out.
    """
    if same_images and a.n == b.n and a.leave_group_out and b.leave_group_out:
        without = [each for value in (a, b) for each in value.leave_group_out]
        if scale == "ratio" and min(without) <= 0:
            return None
        transform, sizes = TRANSFORMS[scale], group_sizes(a.n, len(a.leave_group_out))
        one, other = (
            Jackknife(transform(each.value), list(map(transform, each.leave_group_out)), sizes) for each in (a, b)
        )
        return a.value - b.value, a.n, one.minus(other).standard_error ** 2, len(sizes) - 1
    if rows is None or scale == "ratio":
        return None
    one, other = (np.asarray(each, np.float64) for each in rows)
    finite = np.isfinite(one) & np.isfinite(other)
    differences = one[finite] - other[finite]
    n = len(differences)
    return (float(differences.mean()), n, float(differences.var(ddof=1)) / n, n - 1) if n > 1 else None


def _over_images(a: Value, b: Value, scale: Scale) -> list[tuple[float, int]] | None:
    """Variances and degrees of freedom of independent sides; ``None`` if an error is not known."""
    parts = []
    for value in (a, b):
        error = error_of_images(value)
        if error is None or not math.isfinite(error):
            return None
        samples = len(value.leave_group_out or value.repeats) or value.n
        parts.append(((error / (value.value if scale == "ratio" else 1)) ** 2, max(1, samples - 1)))
    return parts
