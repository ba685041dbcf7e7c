# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of two autoencoders on the same images: the difference, its interval, and a verdict.

Most of the error of a mean over images comes from the choice of images, which two autoencoders share. It cancels image
by image; for distances between sets it cancels group by group (``evaluation.metrics.jackknife``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

from dcae.benchmark.record import Value
from dcae.files import set_aside
from evaluation.metrics.jackknife import Jackknife, group_sizes

CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "not distinguishable"]
PerImage = Mapping[str, np.ndarray]  # image (its index in the dataset), psnr, ssim, lpips, ...: [N] each


class PairingError(ValueError):
    """Values are damaged, or not of the same images."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two values over the same n images; ``low`` to ``high`` is its 95 % interval."""

    difference: float
    standard_error: float
    low: float
    high: float
    n: int
    verdict: Verdict

    @classmethod
    def of(cls, difference: float, error: float, degrees_of_freedom: int, n: int, better: str) -> Comparison:
        """Compute interval and verdict by Student's t; ``better``: ``higher`` or ``lower`` values."""
        half = float(student.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom)) * error
        return cls.between(difference, error, difference - half, difference + half, n, better)

    @classmethod
    def between(cls, difference: float, error: float, low: float, high: float, n: int, better: str) -> Comparison:
        """Return the verdict of an interval; ``better``: ``higher`` or ``lower`` values."""
        verdict: Verdict = "not distinguishable"
        if low > 0 or high < 0:
            verdict = "better" if (low > 0) == (better == "higher") else "worse"
        return cls(difference, error, low, high, n, verdict)


def compare_images(a: np.ndarray, b: np.ndarray, better: str) -> Comparison | None:
    """Subtract the mean of b from that of a, by the differences of each image; exact if these are normal.

    Images with an infinite value, such as the PSNR of an unchanged image, are left out.

    Args:
        a: value of each image, [N].
        b: values of the same images in the same order, [N].
        better: ``higher`` or ``lower``.

    Returns:
        ``None`` if fewer than two images are left.

    Raises:
        PairingError: the numbers of images differ.
    """
    if len(a) != len(b):
        raise PairingError(f"values of {len(a)} and of {len(b)} images cannot be compared image by image")
    finite = np.isfinite(a) & np.isfinite(b)
    if finite.sum() < 2:
        return None
    differences = np.asarray(a, np.float64)[finite] - np.asarray(b, np.float64)[finite]
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return Comparison.of(float(differences.mean()), error, len(differences) - 1, len(differences), better)


def compare_distances(a: Value, b: Value, better: str = "lower") -> Comparison | None:
    """Subtract one distance between sets from another, by the jackknife over the same groups of images.

    Args:
        a: value of a record, with its estimates without each group (``leave_group_out``).
        b: the other one, by the same protocol on the same images.
        better: ``higher`` or ``lower``.

    Returns:
        ``None`` if a value has no estimates without each group.

    Raises:
        PairingError: the numbers of images differ.
    """
    if a.n != b.n:
        raise PairingError(f"values of {a.n} and of {b.n} images cannot be compared group by group")
    if not (a.leave_group_out and b.leave_group_out):
        return None
    sizes = group_sizes(a.n, len(a.leave_group_out))
    one, other = (Jackknife(each.value, each.leave_group_out, sizes) for each in (a, b))
    found = one.minus(other)
    return Comparison.of(found.estimate, found.standard_error, len(sizes) - 1, a.n, better)


def compare(
    name: str, a: Value, b: Value, rows_a: PerImage | None, rows_b: PerImage | None, better: str
) -> Comparison | None:
    """Subtract a value of one autoencoder from that of another over the same images: by groups, or image by image.

    Args:
        name: of the value, and its column in the rows.
        a, b: both values, measured by one protocol.
        rows_a, rows_b: the values of every image, if available.
        better: ``higher`` or ``lower``.

    Returns:
        ``None`` if they cannot be paired.

    Raises:
        PairingError: the rows are of different images.
    """
    if a.leave_group_out and b.leave_group_out:
        return compare_distances(a, b, better)
    if rows_a is None or rows_b is None or name not in rows_a or name not in rows_b:
        return None
    if not np.array_equal(rows_a["image"], rows_b["image"]):
        raise PairingError(f"{name}: the rows of two autoencoders are of different images")
    return compare_images(rows_a[name], rows_b[name], better)


def read_rows(path) -> PerImage:
    """Read a file of ``evaluation.quality.reconstruction.write_rows``.

    Raises:
        PairingError: the file is damaged; it is set aside, so that the evaluation writes it again.
    """
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise PairingError(f"{path} is damaged ({error}); {set_aside(path)}") from error
    return {name: table[name].to_numpy() for name in table.column_names}
