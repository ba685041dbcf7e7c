# SPDX-License-Identifier: Apache-2.0
"""Initial weights: none where a file replaces them, or random ones from a seed where no file can be had."""

from __future__ import annotations

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

LAYER_SCALES = ("lambda1", "gamma")  # as transformers and timm name the factors of a residual branch


class SkipInitialisation(TorchFunctionMode):
    """Networks built within this context leave their weights unset, which saves time where all are set afterwards."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def set_to_zero(layer: nn.Module) -> None:
    """Weights and biases 0: a residual branch that ends with this layer adds nothing at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def seeded_random_init(module: nn.Module, seed: int) -> None:
    """Fill a network with weights that depend on the seed alone, in place.

    Weights of two or more dimensions are He-normal, which keeps the scale of activations through ReLU networks of any
    depth, so that features of random weights neither vanish nor overflow. Biases are 0; normalisation layers and
    LayerScale are the identity (at 0, a residual branch would let no image through).
    """
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    for child in module.modules():
        is_norm = isinstance(child, norms)
        if is_norm and hasattr(child, "reset_running_stats"):
            child.reset_running_stats()
        for name, parameter in child.named_parameters(recurse=False):
            with torch.no_grad():
                if is_norm or name in LAYER_SCALES:
                    parameter.fill_(0.0 if name == "bias" else 1.0)
                elif parameter.dim() < 2:
                    parameter.zero_()
                else:
                    fan_in = parameter[0].numel()
                    parameter.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
