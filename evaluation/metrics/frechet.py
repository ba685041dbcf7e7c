# SPDX-License-Identifier: Apache-2.0
"""Fréchet distances, in float64.

The Fréchet distance of two Gaussians (Dowson and Landau 1982; as FID, Heusel et al. 2017) is

    |mean_a - mean_b|² + tr(covariance_a) + tr(covariance_b) - 2 tr((covariance_a covariance_b)^½).

The last trace needs no matrix square root: it is the sum of the square roots of the eigenvalues of a symmetric matrix,
or, with fewer samples than dimensions, the sum of the singular values of a small matrix. Both stay real and exact for
singular covariances, unlike ``scipy.linalg.sqrtm``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 4096
# Eigenvalues below this share of the largest one are rounding noise of the eigensolver, which returns exact zeros as a
# few times 1e-16. Their square roots, 1e-8 each, would add up over hundreds of empty dimensions.
NOISE = 32 * torch.finfo(torch.float64).eps
# A Cholesky pivot below this share of the largest one may be rounding noise as well.
FULL_RANK = 1e-10


# --- moments --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of feature vectors; sets merge in any grouping (Chan et al. 1983).

    ``scatter`` is the sum of outer products of the centred vectors, which loses no digits to a large mean.
    """

    count: int
    mean: Tensor  # [d] float64
    scatter: Tensor  # [d, d] float64

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Compute the moments of ``features`` [N, d] in float64, a block at a time.

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
        """Return the moments of the union of both sets."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = torch.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def without(self, part: Moments) -> Moments:
        """Return the moments of this set without a part of it: the inverse of ``merged``."""
        count = self.count - part.count
        mean = (self.mean * self.count - part.mean * part.count) / count
        difference = part.mean - mean
        between = torch.outer(difference, difference) * (count * part.count / self.count)
        return Moments(count, mean, self.scatter - part.scatter - between)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance [d, d], divided by N - 1 as in every FID implementation."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)


@dataclass(frozen=True)
class Reference:
    """Features of real images in one feature set."""

    features: Tensor  # float32 [N, d]; of a large set, those of evenly spaced images
    moments: Moments | None  # of a large set

    @property
    def whole(self) -> Tensor | Moments:
        """What Fréchet distances need: the features of all images, or their moments."""
        return self.features if self.moments is None else self.moments


# --- Fréchet distance -----------------------------------------------------------------------------------------------


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Compute the Fréchet distance between two Gaussians.

    Args:
        mean_a: [d], tensor or array of any float type, like the others.
        covariance_a: [d, d], symmetric positive semi-definite, of any rank.
        mean_b: [d].
        covariance_b: [d, d].

    Returns:
        The squared distance; FID for moments of Inception features. Rounding can make it slightly negative.

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
    """Compute the Fréchet distance between the Gaussians of two feature sets [N, d] and [M, d].

    If N or M is at most d, an N x M matrix replaces the d x d covariances: exact, and fast for small sets. The second
    set may be given by its moments if it is larger than d.

    Args:
        features_a: [N, d], such as Inception's pool features.
        features_b: [M, d], or its moments.

    Returns:
        The squared distance, as ``frechet_distance``.

    Raises:
        ValueError: fewer than two samples, shapes that do not fit, or values that are not finite.
    """
    check_features(features_a, features_b)
    if is_small(features_a, features_b):
        return GramMatrices.of(features_a, features_b).distance()
    return distance_of_moments(Moments.of(features_a), moments_of(features_b))


def is_small(features_a: Tensor, features_b: Tensor | Moments) -> bool:
    """Return whether the matrix of inner products is the faster way."""
    return isinstance(features_b, Tensor) and min(len(features_a), len(features_b)) <= features_a.shape[1]


def moments_of(features: Tensor | Moments) -> Moments:
    """Return moments as they are, and compute those of features."""
    return features if isinstance(features, Moments) else Moments.of(features)


def distance_of_moments(a: Moments, b: Moments) -> float:
    """Compute ``frechet_distance`` of two sets given by their moments."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _trace_of_root(covariance_a: Tensor, covariance_b: Tensor) -> Tensor:
    """Return tr((AB)^½). With A = FFᵀ, AB has the eigenvalues of the symmetric FᵀBF."""
    factor = _factor(covariance_a)  # [d, rank]
    if factor.shape[1] == 0:
        return covariance_a.new_zeros(())
    product = torch.linalg.eigvalsh(factor.T @ covariance_b @ factor)
    return product[product > NOISE * product[-1]].sqrt().sum()


def _factor(covariance: Tensor) -> Tensor:
    """Return F [d, rank] with A = FFᵀ: by Cholesky if A is clearly of full rank, which is ten times faster."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal().square()
    if not failed and pivots.min() > FULL_RANK * pivots.max():
        return factor
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    kept = eigenvalues > NOISE * eigenvalues[-1]
    return eigenvectors[:, kept] * eigenvalues[kept].sqrt()


@dataclass(frozen=True)
class GramMatrices:
    """Inner products within and across two feature sets, from which the Fréchet distance of small sets is computed.

    With centred features X [N, d] and Y [M, d], tr((AB)^½) is the nuclear norm of XYᵀ over sqrt((N - 1)(M - 1)).
    """

    aa: Tensor  # [N, N]
    bb: Tensor  # [M, M]
    ab: Tensor  # [N, M]

    @classmethod
    def of(cls, features_a: Tensor, features_b: Tensor) -> GramMatrices:
        """Compute the inner products of features [N, d] and [M, d]."""
        features_a, features_b = _as_float64(features_a), _as_float64(features_b)
        # A common shift changes no distance, and avoids cancellation in the sums below if the mean is far from zero.
        centre = features_b.mean(0)
        a, b = features_a - centre, features_b - centre
        return cls(a @ a.T, b @ b.T, a @ b.T)

    def kept(self, rows: Tensor, columns: Tensor) -> GramMatrices:
        """Return those of the samples with these indices of set a (rows) and of set b (columns)."""
        return GramMatrices(self.aa[rows][:, rows], self.bb[columns][:, columns], self.ab[rows][:, columns])

    def distance(self) -> float:
        """Compute the Fréchet distance of the two sets."""
        n, m = self.ab.shape
        mean_a, mean_b, mean_product = self.aa.mean(), self.bb.mean(), self.ab.mean()
        squared_difference = mean_a + mean_b - 2 * mean_product
        trace_a = (self.aa.trace() - n * mean_a) / (n - 1)
        trace_b = (self.bb.trace() - m * mean_b) / (m - 1)
        centred = self.ab - self.ab.mean(0) - self.ab.mean(1, keepdim=True) + mean_product
        trace_of_root = torch.linalg.svdvals(centred).sum() / math.sqrt((n - 1) * (m - 1))
        return float(squared_difference + trace_a + trace_b - 2 * trace_of_root)


# --- checks ---------------------------------------------------------------------------------------------------------


def _as_float64(values) -> Tensor:
    values = torch.as_tensor(values).to(torch.float64)
    if not values.isfinite().all():
        raise ValueError("features and moments must be finite, got NaN or infinity")
    return values


def check_features(features_a: Tensor, features_b: Tensor | Moments) -> None:
    """Raise ``ValueError`` for shapes without a Fréchet distance."""
    a = tuple(features_a.shape)
    b = (features_b.count, len(features_b.mean)) if isinstance(features_b, Moments) else tuple(features_b.shape)
    if len(a) != 2 or len(b) != 2 or a[1] != b[1] or min(a[0], b[0]) < 2:
        raise ValueError(f"expected features [N, d] and [M, d] with N, M >= 2, got shapes {a} and {b}")
