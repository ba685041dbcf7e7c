# SPDX-License-Identifier: Apache-2.0
"""Improved precision and recall (Kynkäänniemi et al. 2019): fidelity and coverage of a feature set, k = 3.

Each feature vector has a ball that reaches to its k-th nearest neighbour in its own set. Precision is the share of
evaluated samples within a ball of the reference, recall the share of the reference within a ball of the samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 3
BLOCK = 1024


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared distances [n, m] of features [n, d] and [m, d]; in float64 this form is precise enough."""
    return (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T


def _squared_radii(features: Tensor, neighbours: int) -> Tensor:
    """Return the squared distance of each vector to its k-th nearest other one, [n]."""
    radii = []
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK]
        distances = _squared_distances(block, features)
        rows = torch.arange(len(block), device=features.device)
        distances[rows, start + rows] = torch.inf  # itself
        radii.append(distances.kthvalue(neighbours, dim=1).values)
    return torch.cat(radii)


def _within(samples: Tensor, features: Tensor, squared_radii: Tensor) -> Tensor:
    """Return whether each sample is in any ball, bool [n]."""
    blocks = samples.split(BLOCK)
    return torch.cat([(_squared_distances(block, features) <= squared_radii).any(1) for block in blocks])


def precision_recall(features_a: Tensor, features_b: Tensor, neighbours: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Return which samples of each set are within the other's balls; precision and recall are the means.

    Args:
        features_a: [N, d], evaluated set.
        features_b: [M, d], the reference.
        neighbours: k.

    Returns:
        bool [N] for precision and bool [M] for recall.

    Raises:
        ValueError: a set has at most k samples.
    """
    if min(len(features_a), len(features_b)) <= neighbours:
        raise ValueError(
            f"precision and recall with k = {neighbours} need at least {neighbours + 1} samples of each set, "
            f"got {len(features_a)} and {len(features_b)}"
        )
    centre = features_b.double().mean(0)  # a common shift changes no distance and avoids cancellation
    a, b = features_a.double() - centre, features_b.double() - centre
    return _within(a, b, _squared_radii(b, neighbours)), _within(b, a, _squared_radii(a, neighbours))
