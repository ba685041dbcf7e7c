# SPDX-License-Identifier: Apache-2.0
"""Features that cost nothing, in place of the Inception network."""

import pytest
import torch
from torch import Tensor

import evaluation.features.extractor
from dcae.benchmark.entries import Protocol


class FewFeatures:
    """In place of the Inception network: 48 mean colours, whatever the batch."""

    def __init__(self, protocol: Protocol, device: str, network: None = None):
        pass

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), images.shape[-1] // 4).flatten(1)


@pytest.fixture
def few_features(monkeypatch):
    monkeypatch.setattr(evaluation.features.extractor, "load_inception", lambda weights, device: None)
    monkeypatch.setattr(evaluation.features.extractor, "InceptionFeatures", FewFeatures)
