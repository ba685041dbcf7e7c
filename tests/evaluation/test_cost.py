# SPDX-License-Identifier: Apache-2.0
"""What is counted of a model, beside counts by hand."""

import pytest
import torch
from torch import nn

from evaluation.cost import bytes_kept_for_backward


def test_what_a_backward_pass_needs_is_counted_once():
    x = torch.randn(4, 8, requires_grad=True)
    layer = nn.Linear(8, 8)
    assert bytes_kept_for_backward(lambda: layer(x)) == x.numel() * 4  # the weight is there anyway
    assert bytes_kept_for_backward(lambda: layer(x) + layer(x)) == x.numel() * 4
    assert bytes_kept_for_backward(lambda: layer(x).exp()) == 2 * x.numel() * 4


def test_without_a_backward_pass_there_is_nothing_to_count():
    with pytest.raises(ValueError, match="no backward pass"):
        bytes_kept_for_backward(lambda: nn.Linear(8, 8).requires_grad_(False)(torch.randn(1, 8)))
