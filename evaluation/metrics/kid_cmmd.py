# SPDX-License-Identifier: Apache-2.0
"""Squared maximum mean discrepancies (Gretton et al. 2012) of whole feature sets, in float64: KID and CMMD.

Libraries estimate KID from random subsets of 1,000 features and print the spread over overlapping subsets, which is not
a standard error. Here every pair of features counts once, and the error is that of the delete-a-group jackknife,
computed from the sums of the kernel between groups of samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evaluation.metrics.frechet import check_features
from evaluation.metrics.jackknife import GROUPS, Jackknife, group_sizes

Kernel = Callable[[Tensor, Tensor], Tensor]  # [n, d], [m, d] -> [n, m]
Estimator = Literal["unbiased", "paired", "biased"]

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return (a b / d + 1)³, the kernel of KID (Binkowski et al. 2018)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def gaussian_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return exp(-|a - b|² / (2 sigma²)) with sigma 10, the kernel of CMMD (Jayasumana et al. 2024)."""
    squared_distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return torch.exp(-squared_distance / (2 * CMMD_SIGMA**2))


@dataclass(frozen=True)
class _Sums:
    """Sums of a kernel over all pairs of one group with another, and over the pairs (i, i)."""

    pairs: Tensor  # [G, H] float64
    diagonal: Tensor  # [G] float64: zero where the sets are not the same or not paired

    @classmethod
    def of(cls, kernel: Kernel, a: Tensor, b: Tensor, groups: int, has_diagonal: bool) -> _Sums:
        column_group = torch.arange(len(b), device=b.device) % groups
        pairs = a.new_zeros(groups, groups)
        diagonal = a.new_zeros(groups)
        for group in range(groups):
            values = kernel(a[group::groups], b)  # [n / G, M]
            pairs[group].index_add_(0, column_group, values.sum(0))
            if has_diagonal:
                diagonal[group] = values[:, group::groups].diagonal().sum()
        return cls(pairs, diagonal)

    def total(self, rows_without: int | None, columns_without: int | None) -> tuple[Tensor, Tensor]:
        """Return the sums over all pairs and over the diagonal, without a group of rows, of columns, or of both."""
        total, diagonal = self.pairs.sum(), self.diagonal.sum()
        if rows_without is not None:
            total, diagonal = total - self.pairs[rows_without].sum(), diagonal - self.diagonal[rows_without]
        if columns_without is not None:
            total = total - self.pairs[:, columns_without].sum()
        if rows_without is not None and columns_without is not None:
            total = total + self.pairs[rows_without, columns_without]
        return total, diagonal


def squared_mmd(
    kernel: Kernel, features_a: Tensor, features_b: Tensor, estimator: Estimator, groups: int = GROUPS
) -> Jackknife:
    """Compute the squared maximum mean discrepancy between two sets, and the same without each group of samples.

    Args:
        kernel: of two blocks of features, in float64.
        features_a: [N, d], evaluated set.
        features_b: [M, d], the reference; it stays whole unless the sets are paired.
        estimator: ``unbiased`` for independent sets; ``paired`` if sample i of one set corresponds to sample i of the
            other, which excludes the pairs (i, i) from the cross term, too (unbiased; Gretton et al. 2012, lemma 6);
            ``biased`` counts every pair and is never negative.
        groups: greatest number of groups of the jackknife.

    Raises:
        ValueError: fewer than three samples, shapes that do not fit, or values that are not finite.
    """
    check_features(features_a, features_b)
    n, m = len(features_a), len(features_b)
    if min(n, m) < 3:
        raise ValueError(f"a jackknife of a kernel distance needs at least 3 samples of each set, got {n} and {m}")
    paired = estimator == "paired"
    if paired and n != m:
        raise ValueError(f"paired feature sets must be equally many, got {n} and {m}")
    a, b = features_a.double(), features_b.double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity")
    sizes = group_sizes(n, groups)
    count = len(sizes)
    sums_aa = _Sums.of(kernel, a, a, count, True)
    sums_bb = _Sums.of(kernel, b, b, count, True)
    sums_ab = _Sums.of(kernel, a, b, count, paired)

    def estimate(without: int | None) -> float:
        left = sizes[without] if without is not None else 0
        without_b = without if paired else None
        total_aa, diagonal_aa = sums_aa.total(without, without)
        total_bb, diagonal_bb = sums_bb.total(without_b, without_b)
        total_ab, diagonal_ab = sums_ab.total(without, without_b)
        kept, kept_b = n - left, m - left if paired else m
        if estimator == "biased":
            return float(total_aa / kept**2 + total_bb / kept_b**2 - 2 * total_ab / (kept * kept_b))
        cross = (total_ab - diagonal_ab) / (kept * (kept - 1)) if paired else total_ab / (kept * kept_b)
        within = (total_aa - diagonal_aa) / (kept * (kept - 1)) + (total_bb - diagonal_bb) / (kept_b * (kept_b - 1))
        return float(within - 2 * cross)

    return Jackknife(estimate(None), [estimate(group) for group in range(count)], sizes)


def kernel_inception_distance(features_a: Tensor, features_b: Tensor, paired: bool = False) -> Jackknife:
    """Compute the unbiased KID of Inception features; arguments and errors are those of ``squared_mmd``."""
    return squared_mmd(polynomial_kernel, features_a, features_b, "paired" if paired else "unbiased")


def clip_mmd(embeddings_a: Tensor, embeddings_b: Tensor) -> Jackknife:
    """Compute the CMMD of CLIP image embeddings, as its authors do: times 1000, with the biased estimator."""
    a, b = (torch.nn.functional.normalize(each.double(), dim=1) for each in (embeddings_a, embeddings_b))
    found = squared_mmd(gaussian_kernel, a, b, "biased")
    return Jackknife(CMMD_SCALE * found.estimate, [CMMD_SCALE * each for each in found.left_out], found.sizes)
