# SPDX-License-Identifier: Apache-2.0
"""FID∞: the Fréchet distance extrapolated to infinitely many samples (Chong and Forsyth 2020).

FID is biased upward by about C / N, with a C that differs between models. On subsets of growing size it falls along a
line over 1 / N, whose value at 0 is the estimate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evaluation.metrics.frechet import Moments, frechet_distance_of_features

POINTS = 15
SMALLEST_SHARE = 5  # the smallest subset is a fifth of all samples


def frechet_infinity(
    features_a: Tensor, features_b: Tensor | Moments, paired: bool = False, points: int = POINTS, seed: int = 0
) -> tuple[float, float]:
    """Return the intercept of the regression of the Fréchet distance on 1 / N, and its standard error.

    Sizes are evenly spaced in 1 / N from a fifth of the samples to all of them. Each subset is drawn without
    replacement; the reference stays whole unless the sets are paired. The error is that of the line's fit, which does
    not include errors common to all subsets.

    Args:
        features_a: [N, d], evaluated set.
        features_b: [M, d], the reference, or its moments.
        paired: sample i of one set corresponds to sample i of the other.
        points: subsets, at least 3.
        seed: of the subsets.
    """
    n = len(features_a)
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
    return float(intercept), math.sqrt(residual * (1 / points + x.mean() ** 2 / spread))
