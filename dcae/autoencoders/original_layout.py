# SPDX-License-Identifier: Apache-2.0
"""DC-AE weights in the layout of the code that released them, and under the names that this project uses.

Original names: github.com/mit-han-lab/efficientvit, ``efficientvit/models/efficientvit/dc_ae.py``, ``nn/ops.py``. There
every residual block has its branch as ``main``, a sequence its parts as ``op_list``, and a convolution is a layer that
holds ``conv`` and ``norm``. The names here are those of diffusers' ``AutoencoderDC``. The tensors are the same, but for
the 1x1 convolutions of the attention, which are linear layers here, and for its one projection to queries, keys and
values, which is three layers here: its thirds, in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dcae.autoencoders.dc_ae import DCAE

# Layers here to layers there, without the name of the parameter at the end.
ENDS = {
    "encoder.conv_in": "encoder.project_in.conv",
    "encoder.conv_in.conv": "encoder.project_in.conv.conv",
    "encoder.conv_out": "encoder.project_out.main.op_list.0.conv",
    "decoder.conv_in": "decoder.project_in.main.conv",
    "decoder.norm_out": "decoder.project_out.op_list.0",
    "decoder.conv_out": "decoder.project_out.op_list.2.conv",
    "decoder.conv_out.conv": "decoder.project_out.op_list.2.conv.conv",
}
QKV = "context_module.main.qkv.conv"
PROJECTION = "context_module.main.proj.conv"
OF_A_BLOCK = {
    "conv": "main.conv.conv",  # of a change of size
    "conv1": "main.conv1.conv",
    "conv2": "main.conv2.conv",
    "norm": "main.conv2.norm",
    "attn.to_q": QKV,
    "attn.to_k": QKV,
    "attn.to_v": QKV,
    "attn.to_out": PROJECTION,
    "attn.norm_out": "context_module.main.proj.norm",
    "conv_out.conv_inverted": "local_module.main.inverted_conv.conv",
    "conv_out.conv_depth": "local_module.main.depth_conv.conv",
    "conv_out.conv_point": "local_module.main.point_conv.conv",
    "conv_out.norm": "local_module.main.point_conv.norm",
}
MULTISCALE = {"proj_in": "0", "proj_out": "1"}
# A strided convolution is a layer by itself; the one before pixel-unshuffle lies within another layer.
STRIDED = {"conv": "main.conv", "encoder.conv_in.conv": "encoder.project_in.conv"}


def is_original(names: Iterable[str]) -> bool | None:
    """True for names of the original layout, false for diffusers' names, ``None`` for neither."""
    first = {tuple(name.split(".")[:2]) for name in names}
    original = {("encoder", "project_in"), ("decoder", "project_in")} <= first
    diffusers = {("encoder", "conv_in"), ("decoder", "conv_in")} <= first
    return original if original != diffusers else None


def original_names(autoencoder: DCAE) -> dict[str, list[str]]:
    """Each name of the original layout to the name, or the three names, that the same weights have here.

    Raises:
        ValueError: a layer that the original code does not have.
    """
    strided = autoencoder.entry.downsample == "strided-conv"
    found: dict[str, list[str]] = {}
    for name in autoencoder.state_dict():
        layer, _, parameter = name.rpartition(".")
        found.setdefault(f"{_original_layer(layer, strided)}.{parameter}", []).append(name)
    return found


def _original_layer(layer: str, strided: bool) -> str:
    half, blocks, *place = layer.split(".", 4)
    if blocks not in ("down_blocks", "up_blocks"):
        return STRIDED[layer] if strided and layer in STRIDED else ENDS[layer]
    stage, index, part = place
    block = f"{half}.stages.{stage}.op_list.{index}"
    if part.startswith("attn.to_qkv_multiscale."):
        scale, projection = part.split(".")[2:]
        return f"{block}.context_module.main.aggreg.{scale}.{MULTISCALE[projection]}"
    if part not in OF_A_BLOCK:
        raise ValueError(f"{layer} has no counterpart in the original layout of DC-AE")
    return f"{block}.{STRIDED[part] if strided and half == 'encoder' and part in STRIDED else OF_A_BLOCK[part]}"


def original_shapes(autoencoder: DCAE) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor of the autoencoder in the original layout."""
    shapes = {name: tuple(tensor.shape) for name, tensor in autoencoder.state_dict().items()}
    found = {}
    for there, here in original_names(autoencoder).items():
        shape = shapes[here[0]]
        if len(here) > 1:
            shape = (len(here) * shape[0], *shape[1:])
        found[there] = (*shape, 1, 1) if _is_1x1(there) else shape
    return found


def _is_1x1(name: str) -> bool:
    """True for the convolutions that are linear layers here."""
    return name.endswith((f"{QKV}.weight", f"{PROJECTION}.weight"))


def from_original(tensors: Mapping[str, Tensor], autoencoder: DCAE) -> dict[str, Tensor]:
    """Weights in the original layout, of the shapes of ``original_shapes``, under the names here."""
    renamed: dict[str, Tensor] = {}
    for there, here in original_names(autoencoder).items():
        if there in tensors:
            tensor = tensors[there].flatten(1) if _is_1x1(there) else tensors[there]
            parts = tensor.chunk(len(here)) if len(here) > 1 else [tensor]
            renamed |= zip(here, parts, strict=True)
    return renamed


def to_original(autoencoder: DCAE) -> dict[str, Tensor]:
    """The autoencoder's weights in the original layout, as the released code loads them."""
    tensors, shapes = autoencoder.state_dict(), original_shapes(autoencoder)
    joined = {
        there: torch.cat([tensors[name] for name in here]) if len(here) > 1 else tensors[here[0]]
        for there, here in original_names(autoencoder).items()
    }
    return {name: tensor.reshape(shapes[name]).contiguous() for name, tensor in joined.items()}
