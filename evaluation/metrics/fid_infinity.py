# SPDX-License-Identifier: Apache-2.0
"""FID∞: the Fréchet distance extrapolated to infinitely many samples (Chong and Forsyth 2020).

FID is biased upward by about C / N, with a C that differs between models. On subsets of growing size it falls along a
line over 1 / N, whose value at 0 is the estimate. On subsets of hardly more samples than dimensions it is no line: with
5 samples per dimension the estimate is 10 to 23 % too small, with 10 it is 1 to 3 %, with 20 less than 1 % (Gaussians
of known distance, eigenvalues over 0 to 3 decades; ``tests/evaluation/metrics/test_fid_infinity.py``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evaluation.metrics.frechet import NOISE, Moments, frechet_distance_of_features, moments_of

POINTS = 15
SMALLEST_SHARE = 5  # the smallest subset is a fifth of all samples
SAMPLES_PER_DIMENSION = 10


def frechet_infinity(
    features_a: Tensor, features_b: Tensor | Moments, paired: bool = False, points: int = POINTS, seed: int = 0
) -> tuple[float, float]:
    """Return the intercept of the regression of the Fréchet distance on 1 / N, and its standard error.

    Sizes are evenly spaced in 1 / N from a fifth of the samples to all of them. Each subset is drawn without
    replacement; the reference stays whole unless the sets are paired. The error is that of the line's fit and that of
    the samples, which all subsets share (``sampling_error``): their 95 % interval holds the true distance in 95 to 98 %
    of simulations, that of the fit alone in 80 %.

    Args:
        features_a: [N, d], evaluated set.
        features_b: [M, d], the reference, or its moments.
        paired: sample i of one set corresponds to sample i of the other.
        points: subsets, at least 3.
        seed: of the subsets.

    Raises:
        ValueError: fewer than ten samples per dimension.
    """
    n, dimensions = features_a.shape
    if n < SAMPLES_PER_DIMENSION * dimensions:
        raise ValueError(f"FID∞ of {dimensions} dimensions needs {SAMPLES_PER_DIMENSION * dimensions} samples, got {n}")
    generator = torch.Generator().manual_seed(seed)
    inverse_sizes = torch.linspace(SMALLEST_SHARE / n, 1 / n, points, dtype=torch.float64)
    sizes = [round(1 / float(inverse)) for inverse in inverse_sizes]
    distances = []
    for size in sizes:
        chosen = torch.randperm(n, generator=generator)[:size].to(features_a.device)
        reference = features_b[chosen] if paired else features_b
        distances.append(frechet_distance_of_features(features_a[chosen], reference))
    x = 1 / torch.tensor(sizes, dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    spread = (x - x.mean()).square().sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    intercept = y.mean() - slope * x.mean()
    residual = (y - intercept - slope * x).square().sum() / (points - 2)
    of_fit = residual * (1 / points + x.mean() ** 2 / spread)
    return float(intercept), math.sqrt(of_fit + sampling_error(features_a, features_b, paired) ** 2)


def sampling_error(features_a: Tensor, features_b: Tensor | Moments, paired: bool = False) -> float:
    """Return the standard error of the Fréchet distance due to the samples, by the delta method.

    With the centred sample x, means m and covariances A and B, the distance changes by the mean over samples of
    2 x (m_a - m_b) + x (1 - T) x, where T = A^-½ (A^½ B A^½)^½ A^-½ transports set a to b. The reference is taken as
    exact unless the sets are paired, whose samples count with their own change.
    """
    a, b = Moments.of(features_a), moments_of(features_b)
    difference = a.mean - b.mean
    root, inverse = _root_and_inverse(a.covariance)
    middle, inverse_middle = _root_and_inverse(root @ b.covariance @ root)
    changes = _changes(features_a.double() - a.mean, difference, inverse @ middle @ inverse)
    if paired:
        changes += _changes(features_b.double() - b.mean, -difference, root @ inverse_middle @ root)
    return float(changes.std() / math.sqrt(len(changes)))


def _changes(centred: Tensor, difference: Tensor, transport: Tensor) -> Tensor:
    return (centred * (2 * difference + centred - centred @ transport)).sum(1)


def _root_and_inverse(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root of a covariance and its inverse, both zero where there is no variance."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    kept = eigenvalues > NOISE * eigenvalues[-1]
    vectors, roots = eigenvectors[:, kept], eigenvalues[kept].sqrt()
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T
