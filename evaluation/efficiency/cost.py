# SPDX-License-Identifier: Apache-2.0
"""The cost of a model: parameters, multiply-accumulates, and memory kept for a backward pass.

Counted on the meta device, parameters and multiply-accumulates take no memory and no weights at any size of model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dcae.autoencoders.loading import load
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields


def count_parameters(module: nn.Module) -> int:
    """Count trainable and frozen parameters, a shared one once; buffers such as running statistics do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs(function: Callable[..., object], *inputs: Tensor) -> int:
    """Count the multiply-accumulates of one call, attention products included.

    Matrix products and convolutions count; norms, activations and interpolation do not, as in every table of the
    field. PyTorch's FLOPs are twice as many.

    Args:
        function: a module on the meta device, or a method of one.
        inputs: tensors on the meta device.

    Raises:
        ValueError: an input on another device, where PyTorch counts fused attention as nothing.
    """
    if any(each.device.type != "meta" for each in inputs):
        raise ValueError(f"count on the meta device, got inputs on {[str(each.device) for each in inputs]}")
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() // 2


@torch.no_grad()
def count_parameters_used(module: nn.Module, function: Callable[..., object], *inputs: Tensor) -> int:
    """Count the parameters of a module that one call of its method uses, for example of ``encode``."""
    used: dict[int, int] = {}
    own = {id(parameter) for parameter in module.parameters()}

    class Note(TorchFunctionMode):
        def __torch_function__(self, called, types, args=(), kwargs=None):
            given = [each for each in tree_leaves((args, kwargs)) if id(each) in own]
            used.update({id(parameter): parameter.numel() for parameter in given})
            return called(*args, **(kwargs or {}))

    with Note():
        function(*inputs)
    return sum(used.values())


def bytes_kept_for_backward(forward: Callable[[], Tensor]) -> int:
    """Count the bytes that a forward pass keeps for its backward pass, without parameters, each storage once.

    Args:
        forward: makes a tensor that gradients flow back from.

    Raises:
        ValueError: none do, so that nothing would be kept.
    """
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter):  # a view has a base
            storages[tensor.untyped_storage()._cdata] = (
                tensor.untyped_storage().nbytes()
            )  # meta tensors have no address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    if not result.requires_grad:
        raise ValueError("there is no backward pass: nothing that the result depends on requires a gradient")
    return sum(storages.values())


def describe_autoencoder(entry: AutoencoderFields, resolution: int, config: Config | None = None) -> dict[str, object]:
    """Return shapes, parameters and cost (10**9 multiply-accumulates) of an autoencoder at a resolution.

    ``encoder_parameters`` and ``decoder_parameters`` are those of the layers that run when it encodes and decodes.

    Args:
        entry: of any kind.
        resolution: side of the images in pixels.
        config: where an entry that this one is built on is looked up; the repository's by default.

    Raises:
        ConfigError: the entry's compression does not divide the resolution, or a mistake in the entry.
    """
    if resolution % entry.spatial_compression:
        raise ConfigError(
            f"autoencoder {entry.name}: resolution {resolution} is no multiple of its spatial_compression "
            f"{entry.spatial_compression}"
        )
    autoencoder = load(entry, config=config, device="meta")
    images = torch.empty(1, 3, resolution, resolution, device="meta")
    side = resolution // entry.spatial_compression
    latents = torch.empty(1, entry.latent_channels, side, side, device="meta")
    return {
        "resolution": resolution,
        "spatial_compression": entry.spatial_compression,
        "latent_channels": entry.latent_channels,
        "latent_shape": [entry.latent_channels, side, side],
        "parameters": count_parameters(autoencoder),
        "encoder_parameters": count_parameters_used(autoencoder, autoencoder.encode, images),
        "decoder_parameters": count_parameters_used(autoencoder, autoencoder.decode, latents),
        "encode_gmacs": round(count_macs(autoencoder.encode, images) / 1e9, 3),
        "decode_gmacs": round(count_macs(autoencoder.decode, latents) / 1e9, 3),
    }
