# SPDX-License-Identifier: Apache-2.0
"""Fréchet distances and error bars, in float64.

The Fréchet distance of two Gaussians (Dowson and Landau 1982; as FID, Heusel et al. 2017) is

    |mean_a - mean_b|² + tr(covariance_a) + tr(covariance_b) - 2 tr((covariance_a covariance_b)^½).

The last trace is never taken from a matrix square root: it is the sum of the square roots of the eigenvalues of a
symmetric matrix, or, while there are fewer samples than dimensions, of singular values of a small matrix. Both stay
real and right where the covariances are singular, which ``scipy.linalg.sqrtm`` does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

JACKKNIFE_GROUPS = 64
BLOCK = 4096
# Eigenvalues below this share of the largest one are rounding noise of the eigensolver: what is exactly zero comes out
# at a few times 1e-16. Their square roots, 1e-8 each, would add up over hundreds of empty dimensions.
NOISE = 32 * torch.finfo(torch.float64).eps


# --- moments --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of feature vectors; sets merge in any grouping (Chan et al. 1983).

    ``scatter`` is the sum of outer products of the centred vectors, so that a large mean cancels nothing.
    """

    count: int
    mean: Tensor  # [d] float64
    scatter: Tensor  # [d, d] float64

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of ``features`` [N, d], which are taken to float64 a block at a time.

        Raises:
            ValueError: no features, or values that are not finite.
        """
        if features.ndim != 2 or len(features) == 0:
            raise ValueError(f"expected features [N, d] with N >= 1, got shape {tuple(features.shape)}")
        moments = None
        for block in features.split(BLOCK):
            block = _as_float64(block)
            mean = block.mean(0)
            centred = block - mean
            part = cls(len(block), mean, centred.T @ centred)
            moments = part if moments is None else moments.merged(part)
        return moments

    def merged(self, other: Moments) -> Moments:
        """Moments of both sets together."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = torch.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def without(self, part: Moments) -> Moments:
        """Moments of this set after a part of it is taken out: the inverse of ``merged``."""
        count = self.count - part.count
        mean = (self.mean * self.count - part.mean * part.count) / count
        difference = part.mean - mean
        between = torch.outer(difference, difference) * (count * part.count / self.count)
        return Moments(count, mean, self.scatter - part.scatter - between)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance [d, d], as every FID implementation takes it (N - 1)."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Fréchet distance between two Gaussians.

    Args:
        mean_a, mean_b: [d], tensors or arrays of any float type.
        covariance_a, covariance_b: [d, d], symmetric positive semi-definite, of any rank.

    Returns:
        The squared distance; FID if the moments are those of Inception features. It may be negative by rounding alone.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    mean_a, covariance_a, mean_b, covariance_b = map(_as_float64, (mean_a, covariance_a, mean_b, covariance_b))
    shapes = [tuple(each.shape) for each in (mean_a, covariance_a, mean_b, covariance_b)]
    d = mean_a.numel()
    if shapes != [(d,), (d, d)] * 2:
        raise ValueError(f"expected means [d] and covariances [d, d] of one d, got shapes {shapes}")
    difference = mean_a - mean_b
    traces = covariance_a.trace() + covariance_b.trace() - 2 * _trace_of_root(covariance_a, covariance_b)
    return float(difference @ difference + traces)


def frechet_distance_of_features(features_a: Tensor, features_b: Tensor | Moments) -> float:
    """Fréchet distance between the Gaussians of two feature sets [N, d] and [M, d].

    With N or M up to d, it takes an N x M matrix instead of the d x d covariances: exact, and fast for small sets. Of
    the second set the moments suffice, if it is larger than d.

    Raises:
        ValueError: fewer than two samples, shapes that do not fit, or values that are not finite.
    """
    _check_features(features_a, features_b)
    if _is_small(features_a, features_b):
        return _GramMatrices.of(features_a, features_b).distance()
    return _distance_of_moments(Moments.of(features_a), _moments_of(features_b))


def _is_small(features_a: Tensor, features_b: Tensor | Moments) -> bool:
    """Whether the matrix of inner products is the better way."""
    return isinstance(features_b, Tensor) and min(len(features_a), len(features_b)) <= features_a.shape[1]


def _moments_of(features: Tensor | Moments) -> Moments:
    return features if isinstance(features, Moments) else Moments.of(features)


def _distance_of_moments(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _trace_of_root(covariance_a: Tensor, covariance_b: Tensor) -> Tensor:
    """tr((AB)^½). With A = FFᵀ its eigenvalues are those of the symmetric FᵀBF."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance_a)
    kept = eigenvalues > NOISE * eigenvalues[-1]
    factor = eigenvectors[:, kept] * eigenvalues[kept].sqrt()  # [d, rank]
    if factor.shape[1] == 0:
        return covariance_a.new_zeros(())
    product = torch.linalg.eigvalsh(factor.T @ covariance_b @ factor)
    return product[product > NOISE * product[-1]].sqrt().sum()


@dataclass(frozen=True)
class _GramMatrices:
    """Inner products within and across two feature sets: all that the Fréchet distance of small sets needs.

    With centred features X [N, d] and Y [M, d], tr((AB)^½) is the nuclear norm of XYᵀ over sqrt((N - 1)(M - 1)).
    """

    aa: Tensor  # [N, N]
    bb: Tensor  # [M, M]
    ab: Tensor  # [N, M]

    @classmethod
    def of(cls, features_a: Tensor, features_b: Tensor) -> _GramMatrices:
        features_a, features_b = _as_float64(features_a), _as_float64(features_b)
        # A common shift changes no distance; without it, a mean far from zero would cancel in the sums below.
        centre = features_b.mean(0)
        a, b = features_a - centre, features_b - centre
        return cls(a @ a.T, b @ b.T, a @ b.T)

    def kept(self, rows: Tensor, columns: Tensor) -> _GramMatrices:
        """Of the samples with these indices of set a (rows) and of set b (columns)."""
        return _GramMatrices(self.aa[rows][:, rows], self.bb[columns][:, columns], self.ab[rows][:, columns])

    def distance(self) -> float:
        n, m = self.ab.shape
        mean_a, mean_b, mean_product = self.aa.mean(), self.bb.mean(), self.ab.mean()
        squared_difference = mean_a + mean_b - 2 * mean_product
        trace_a = (self.aa.trace() - n * mean_a) / (n - 1)
        trace_b = (self.bb.trace() - m * mean_b) / (m - 1)
        centred = self.ab - self.ab.mean(0) - self.ab.mean(1, keepdim=True) + mean_product
        trace_of_root = torch.linalg.svdvals(centred).sum() / math.sqrt((n - 1) * (m - 1))
        return float(squared_difference + trace_a + trace_b - 2 * trace_of_root)


# --- error bars -----------------------------------------------------------------------------------------------------


def jackknife_frechet(
    features_a: Tensor, features_b: Tensor | Moments, paired: bool = False, groups: int = JACKKNIFE_GROUPS
) -> float:
    """Standard error of ``frechet_distance_of_features`` by the delete-a-group jackknife.

    Sample i belongs to group i mod ``groups``; the distance is taken again without each group (groups of unequal size
    weigh by Busing et al. 1999, which is the usual formula when they are equal). The bootstrap is no substitute: copies
    of a sample bias the distance upward by far more than its error (5,000 paired samples: 0.302 became 0.371 +- 0.002).

    Args:
        features_a: [N, d], what is evaluated.
        features_b: [M, d], the reference, or its moments.
        paired: sample i of both sets belongs together, as for an autoencoder's inputs and outputs; a group then leaves
            both. Otherwise the reference stays whole: the error is that of sampling a alone, since all cells share the
            reference.
        groups: at most; fewer if there are fewer samples.

    Raises:
        ValueError: paired sets of unequal length, or too few samples.
    """
    _check_features(features_a, features_b)
    n, groups = len(features_a), min(groups, len(features_a))
    if paired and (isinstance(features_b, Moments) or len(features_b) != n):
        raise ValueError("paired feature sets must both be features, and equally many")
    if n < 3:
        raise ValueError(f"a jackknife of covariances needs at least 3 samples, got {n}")
    leave_out = _small_leave_out if _is_small(features_a, features_b) else _large_leave_out
    distance_without = leave_out(features_a, features_b, paired)
    index = torch.arange(n, device=features_a.device)
    left_out = [index % groups == group for group in range(groups)]
    sizes = [int(mask.sum()) for mask in left_out]
    estimate = frechet_distance_of_features(features_a, features_b)
    return _delete_group_error(estimate, [distance_without(mask) for mask in left_out], sizes)


def _small_leave_out(features_a: Tensor, features_b: Tensor, paired: bool) -> Callable[[Tensor], float]:
    gram = _GramMatrices.of(features_a, features_b)
    everything = torch.arange(len(features_b), device=features_b.device)

    def distance_without(mask: Tensor) -> float:
        kept = (~mask).nonzero().squeeze(1)
        return gram.kept(kept, kept if paired else everything).distance()

    return distance_without


def _large_leave_out(features_a: Tensor, features_b: Tensor | Moments, paired: bool) -> Callable[[Tensor], float]:
    whole_a, whole_b = Moments.of(features_a), _moments_of(features_b)

    def distance_without(mask: Tensor) -> float:
        a = whole_a.without(Moments.of(features_a[mask]))
        b = whole_b.without(Moments.of(features_b[mask])) if paired else whole_b
        return _distance_of_moments(a, b)

    return distance_without


def _delete_group_error(estimate: float, left_out: Sequence[float], sizes: Sequence[int]) -> float:
    """Jackknife standard error from the estimates without each group (Busing et al. 1999, eq. 4)."""
    n, groups = sum(sizes), len(sizes)
    jackknife = groups * estimate - sum((1 - size / n) * value for size, value in zip(sizes, left_out, strict=True))
    variance = 0.0
    for size, value in zip(sizes, left_out, strict=True):
        h = n / size
        variance += (h * estimate - (h - 1) * value - jackknife) ** 2 / (h - 1)
    return math.sqrt(variance / groups)


def mean_and_standard_error(values: Tensor | Sequence[float]) -> tuple[float, float | None]:
    """Mean over samples and its standard error, which is ``None`` for one sample and where a value is infinite.

    Raises:
        ValueError: no values, or a value that is not a number.
    """
    values = torch.as_tensor(values, dtype=torch.float64).flatten()
    if values.numel() == 0 or values.isnan().any():
        raise ValueError(f"expected at least one number and no NaN, got {values.tolist()[:8]}")
    if values.numel() == 1 or values.isinf().any():
        return float(values.mean()), None
    return float(values.mean()), float(values.std() / math.sqrt(values.numel()))


# --- checks ---------------------------------------------------------------------------------------------------------


def _as_float64(values) -> Tensor:
    values = torch.as_tensor(values).to(torch.float64)
    if not values.isfinite().all():
        raise ValueError("features and moments must be finite, got NaN or infinity")
    return values


def _check_features(features_a: Tensor, features_b: Tensor | Moments) -> None:
    a = tuple(features_a.shape)
    b = (features_b.count, len(features_b.mean)) if isinstance(features_b, Moments) else tuple(features_b.shape)
    if len(a) != 2 or len(b) != 2 or a[1] != b[1] or min(a[0], b[0]) < 2:
        raise ValueError(f"expected features [N, d] and [M, d] with N, M >= 2, got shapes {a} and {b}")
