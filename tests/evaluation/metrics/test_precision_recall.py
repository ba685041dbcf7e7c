# SPDX-License-Identifier: Apache-2.0
"""Precision and recall against torch-fidelity's own on the same features, and where their values are known."""

import pytest
import torch

import evaluation.metrics.precision_recall
from evaluation.metrics.precision_recall import precision_recall


def features(n: int, seed: int, shift: float = 0.0, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_values_are_torch_fidelitys():
    from torch_fidelity.metric_prc import prc_features_to_metric

    made, real = features(60, 0, shift=0.4), features(50, 1)
    options = {"prc_neighborhood": 3, "prc_batch_size": 25, "cuda": False, "verbose": False, "save_cpu_ram": True}
    theirs = prc_features_to_metric(made, real, **options)
    precision, recall = precision_recall(made, real)
    # It calls the first set the generated one; a pre-release of it had the two names the other way round.
    assert float(precision.double().mean()) == pytest.approx(float(theirs["precision"]), abs=1e-6)
    assert float(recall.double().mean()) == pytest.approx(float(theirs["recall"]), abs=1e-6)
    assert precision.double().mean() != recall.double().mean()


def test_equal_sets_are_perfect_and_distant_ones_have_nothing_in_common():
    real = features(40, 0)
    assert all(bool(each.all()) for each in precision_recall(real, real))
    assert not any(bool(each.any()) for each in precision_recall(real + 100, real))


def test_a_dropped_mode_costs_recall_and_a_foreign_sample_costs_precision():
    modes = torch.cat([features(40, 0), features(40, 1, shift=50)])
    precision, recall = precision_recall(features(40, 2), modes)
    assert precision.double().mean() > 0.8
    assert recall.double().mean() < 0.55
    precision, recall = precision_recall(torch.cat([modes, features(1, 3, shift=-70)]), modes)
    assert not precision[-1] and bool(recall.all())


def test_blocks_do_not_matter(monkeypatch):
    made, real = features(33, 0), features(47, 1)
    whole = precision_recall(made, real)
    monkeypatch.setattr(evaluation.metrics.precision_recall, "BLOCK", 10)
    for one, other in zip(whole, precision_recall(made, real), strict=True):
        assert torch.equal(one, other)


def test_three_samples_have_no_third_neighbour():
    with pytest.raises(ValueError, match="at least 4 samples of each set, got 3 and 40"):
        precision_recall(features(3, 0), features(40, 1))
