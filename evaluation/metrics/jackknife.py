# SPDX-License-Identifier: Apache-2.0
"""Standard errors of distances between sets, by the delete-a-group jackknife.

Sample i belongs to group i mod G. The distance is computed again without each group; the spread of these values gives
the standard error, and the spread of their differences between two models over the same images that of the difference.
The bootstrap is no substitute: copies of a sample bias a Fréchet distance upward by far more than its error (5,000
paired samples: 0.302 became 0.371 ± 0.002).

Against the spread of 150 repeated samples the errors are right to 12 % where two sets differ; of two sets of one
distribution, where the distance is flat, they are too large: by 30 % for FID, and by 22 to 35 % for KID.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # tables subtract estimates without torch
    from torch import Tensor

    from evaluation.metrics.frechet import Moments

GROUPS = 64


def group_sizes(n: int, groups: int = GROUPS) -> list[int]:
    """Return the number of samples in each group; there are at most n groups."""
    groups = min(groups, n)
    return [len(range(group, n, groups)) for group in range(groups)]


@dataclass(frozen=True)
class Jackknife:
    """An estimate from all samples, and the estimates without each group."""

    estimate: float
    left_out: list[float]
    sizes: list[int]

    @property
    def standard_error(self) -> float:
        """By Busing et al. 1999, eq. 4, for groups of unequal size; the usual formula if they are equal."""
        n, groups = sum(self.sizes), len(self.sizes)
        pairs = list(zip(self.sizes, self.left_out, strict=True))
        jackknife = groups * self.estimate - sum((1 - size / n) * value for size, value in pairs)
        variance = 0.0
        for size, value in pairs:
            h = n / size
            variance += (h * self.estimate - (h - 1) * value - jackknife) ** 2 / (h - 1)
        return math.sqrt(variance / groups)

    def minus(self, other: Jackknife) -> Jackknife:
        """Return the difference of two estimates over the same samples; errors that they share cancel.

        Raises:
            ValueError: the numbers of samples or groups differ.
        """
        if self.sizes != other.sizes:
            raise ValueError(f"estimates over {sum(self.sizes)} and {sum(other.sizes)} samples cannot be paired")
        left_out = [a - b for a, b in zip(self.left_out, other.left_out, strict=True)]
        return Jackknife(self.estimate - other.estimate, left_out, self.sizes)


def jackknife_frechet(
    features_a: Tensor, features_b: Tensor | Moments, paired: bool = False, groups: int = GROUPS
) -> Jackknife:
    """Compute ``frechet_distance_of_features``, and the same without each group.

    Args:
        features_a: [N, d], evaluated set.
        features_b: [M, d], the reference, or its moments.
        paired: sample i of both sets belongs together, as for an autoencoder's inputs and outputs; a group then leaves
            both. Otherwise the reference stays whole: the error is that of sampling a alone, since all cells share the
            reference.
        groups: at most; fewer if there are fewer samples.

    Raises:
        ValueError: paired sets of unequal length, or too few samples.
    """
    import torch

    from evaluation.metrics.frechet import Moments, check_features, frechet_distance_of_features, is_small

    check_features(features_a, features_b)
    n = len(features_a)
    if paired and (isinstance(features_b, Moments) or len(features_b) != n):
        raise ValueError("paired feature sets must both be features, and equally many")
    if n < 3:
        raise ValueError(f"a jackknife of covariances needs at least 3 samples, got {n}")
    leave_out = _small_leave_out if is_small(features_a, features_b) else _large_leave_out
    distance_without = leave_out(features_a, features_b, paired)
    sizes = group_sizes(n, groups)
    index = torch.arange(n, device=features_a.device) % len(sizes)
    left_out = [distance_without(index == group) for group in range(len(sizes))]
    return Jackknife(frechet_distance_of_features(features_a, features_b), left_out, sizes)


def _small_leave_out(features_a: Tensor, features_b: Tensor, paired: bool) -> Callable[[Tensor], float]:
    import torch

    from evaluation.metrics.frechet import GramMatrices

    gram = GramMatrices.of(features_a, features_b)
    everything = torch.arange(len(features_b), device=features_b.device)

    def distance_without(mask: Tensor) -> float:
        kept = (~mask).nonzero().squeeze(1)
        return gram.kept(kept, kept if paired else everything).distance()

    return distance_without


def _large_leave_out(features_a: Tensor, features_b: Tensor | Moments, paired: bool) -> Callable[[Tensor], float]:
    from evaluation.metrics.frechet import Moments, distance_of_moments, moments_of

    whole_a, whole_b = Moments.of(features_a), moments_of(features_b)

    def distance_without(mask: Tensor) -> float:
        a = whole_a.without(Moments.of(features_a[mask]))
        b = whole_b.without(Moments.of(features_b[mask])) if paired else whole_b
        return distance_of_moments(a, b)

    return distance_without


def mean_and_standard_error(values: Tensor | Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of the finite values and its standard error, which is ``None`` for fewer than two of them.

    PSNR is infinite for an image that came back unchanged. Without a finite value the mean is that infinity.

    Raises:
        ValueError: no values, or a value that is not a number.
    """
    import torch

    values = torch.as_tensor(values, dtype=torch.float64).flatten()
    if values.numel() == 0 or values.isnan().any():
        raise ValueError(f"expected at least one number and no NaN, got {values.tolist()[:8]}")
    values = values[values.isfinite()] if values.isfinite().any() else values
    if values.numel() == 1 or values.isinf().any():
        return float(values.mean()), None
    return float(values.mean()), float(values.std() / math.sqrt(values.numel()))
