# SPDX-License-Identifier: Apache-2.0
"""Weight initialisation: skipped where a file replaces it, zero, or random from a seed."""

from __future__ import annotations

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

LAYER_SCALES = ("lambda1", "gamma")  # as transformers and timm name the factors of a residual branch


class SkipInitialisation(TorchFunctionMode):
    """Context that skips ``torch.nn.init``, to save time where all weights are loaded afterwards."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def set_to_zero(layer: nn.Module) -> None:
    """Set weight and bias to 0, so that a residual branch ending with this layer starts as zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def seeded_random_init(module: nn.Module, seed: int) -> None:
    """Fill a network, in place, with random weights that depend only on the seed.

    Weights of two or more dimensions are He-normal, so that activations keep their scale through deep ReLU networks and
    random features neither vanish nor overflow. Biases are 0; normalisation layers and LayerScale are the identity.
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
