# SPDX-License-Identifier: Apache-2.0
"""What is counted of a model, beside counts by hand."""

import pytest
import torch
from torch import nn

from dcae.autoencoders import load
from dcae.training.freezing import freeze_all_but
from evaluation.cost import bytes_kept_for_backward
from tests.training import tiny


def test_what_a_backward_pass_needs_is_counted_once():
    x = torch.randn(4, 8, requires_grad=True)
    layer = nn.Linear(8, 8)
    assert bytes_kept_for_backward(lambda: layer(x)) == x.numel() * 4  # the weight is there anyway
    assert bytes_kept_for_backward(lambda: layer(x) + layer(x)) == x.numel() * 4
    assert bytes_kept_for_backward(lambda: layer(x).exp()) == 2 * x.numel() * 4


@pytest.mark.parametrize("trains", ["all", "middle"])
def test_on_the_meta_device_the_count_is_the_same(trains):
    kept = {}
    for device in ("cpu", "meta"):
        autoencoder = load(tiny.dc_ae(), device=device)
        freeze_all_but(autoencoder, trains)
        images = torch.zeros(2, 3, 32, 32, device=device)
        kept[device] = bytes_kept_for_backward(lambda model=autoencoder, batch=images: model(batch))
    assert kept["meta"] == kept["cpu"] > 0


def test_without_a_backward_pass_there_is_nothing_to_count():
    with pytest.raises(ValueError, match="no backward pass"):
        bytes_kept_for_backward(lambda: nn.Linear(8, 8).requires_grad_(False)(torch.randn(1, 8)))
