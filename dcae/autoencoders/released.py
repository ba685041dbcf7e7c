# SPDX-License-Identifier: Apache-2.0
"""Released weights of a DC-AE: from the hub, a folder or a file, in the original or in diffusers' layout.

Original names: github.com/mit-han-lab/efficientvit, ``efficientvit/models/efficientvit/dc_ae.py``, ``nn/ops.py``. There
every residual block has its branch as ``main``, a sequence its parts as ``op_list``, and a convolution is a layer that
holds ``conv`` and ``norm``. This project uses the names of diffusers' ``AutoencoderDC``. The tensors are the same, but
the 1x1 convolutions of the attention are linear layers here, and its single projection to queries, keys and values is
three layers: its thirds, in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from dcae.autoencoders import folder
from dcae.autoencoders.dc_ae import DCAE
from dcae.autoencoders.dc_ae_config import difference
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DCAEEntry
from dcae.weights.catalogue import WeightsError
from dcae.weights.hub import find

NO_SCALE = (None, 1.0)  # in a config.json where nobody set a scale


def read_released(entry: DCAEEntry, autoencoder: DCAE) -> None:
    """Load the weights under the entry's ``pretrained`` into its autoencoder, in place.

    Every name and shape is checked, as is the ``config.json`` of weights in diffusers' layout. The latent scale comes
    from the entry, since the original layout does not store it, and two released models differ in nothing else; without
    one in the entry it is taken from diffusers' ``config.json``.

    Raises:
        WeightsError: the weights are missing or are not the entry's; names the file and the difference.
        ConfigError: the latent scale is unknown.
    """
    path = autoencoder.released_file = find(f"autoencoder {entry.name}", entry.pretrained)
    shapes = folder.read_shapes(path)
    original = is_original(shapes)
    if original is None:
        raise WeightsError(
            f"{path} holds no DC-AE: expected the names of the original layout (encoder.project_in, …) or those of "
            f"AutoencoderDC (encoder.conv_in, …), got {', '.join(sorted(shapes)[:3]) or 'no tensors'}"
        )
    config = path.with_name(folder.CONFIG)
    if original:
        try:
            expected = original_shapes(autoencoder)
        except ValueError as error:
            raise WeightsError(f"autoencoder {entry.name} cannot have the weights in {path}: {error}") from error
        folder.compare(path, shapes, expected)
        _require_scale(entry, f"{path} is in the original layout, which does not store it")
        tensors = from_original(folder.read_tensors(path), autoencoder)
        autoencoder.load_state_dict(tensors, strict=False)  # compared above
    elif config.is_file():
        stored = folder.read_config(path.parent)
        other = difference(stored, entry)
        if other:
            raise WeightsError(f"{config} is of another autoencoder: {other}")
        _take_scale(entry, autoencoder, stored, config)
        folder.read_file(path, autoencoder)
    else:
        _require_scale(entry, f"there is no {folder.CONFIG} beside {path} to take it from")
        folder.read_file(path, autoencoder)


def _require_scale(entry: DCAEEntry, why: str) -> None:
    if entry.latent_scale is None and entry.recipe is None:  # training measures it
        raise ConfigError(f"autoencoder {entry.name}: latent_scale is missing: {why}")


def _take_scale(entry: DCAEEntry, autoencoder: DCAE, stored: dict, config: Path) -> None:
    """Check or take the scale; it alone tells the released weights ``in`` and ``mix`` apart."""
    if entry.latent_scale is None:
        folder.take_latent_statistics(autoencoder, stored, config)
        if autoencoder.latent_scale in NO_SCALE:
            autoencoder.latent_scale = None
            _require_scale(entry, f"{config} has {stored.get('scaling_factor')}, as where nobody set one")
        return
    scale = stored.get("scaling_factor")
    if scale not in (*NO_SCALE, entry.latent_scale):
        raise WeightsError(
            f"{config}: scaling_factor is {scale}, but latent_scale of autoencoder {entry.name} is "
            f"{entry.latent_scale}: either these are the weights of another model, or the entry is wrong (without a "
            "latent_scale it takes the file's)"
        )


# --- The original layout ----------------------------------------------------------------------------------------------

# Layers here to layers there, without the parameter's name at the end.
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
IN_BLOCK = {
    "conv": "main.conv.conv",  # of a down or up block
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
# A strided convolution is a layer of its own; the one before pixel-unshuffle is inside another layer.
STRIDED = {"conv": "main.conv", "encoder.conv_in.conv": "encoder.project_in.conv"}


def is_original(names: Iterable[str]) -> bool | None:
    """Return True for names of the original layout, False for diffusers' names, ``None`` for neither."""
    first = {tuple(name.split(".")[:2]) for name in names}
    original = {("encoder", "project_in"), ("decoder", "project_in")} <= first
    diffusers = {("encoder", "conv_in"), ("decoder", "conv_in")} <= first
    return original if original != diffusers else None


def original_names(autoencoder: DCAE) -> dict[str, list[str]]:
    """Map each name of the original layout to the one or three names of the same weights here.

    Raises:
        ValueError: the original code has no such layer.
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
    if part not in IN_BLOCK:
        raise ValueError(f"{layer} has no counterpart in the original layout of DC-AE")
    return f"{block}.{STRIDED[part] if strided and half == 'encoder' and part in STRIDED else IN_BLOCK[part]}"


def original_shapes(autoencoder: DCAE) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the autoencoder in the original layout, by name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in autoencoder.state_dict().items()}
    found = {}
    for there, here in original_names(autoencoder).items():
        shape = shapes[here[0]]
        if len(here) > 1:
            shape = (len(here) * shape[0], *shape[1:])
        found[there] = (*shape, 1, 1) if _is_1x1(there) else shape
    return found


def _is_1x1(name: str) -> bool:
    """Return whether a convolution is a linear layer here."""
    return name.endswith((f"{QKV}.weight", f"{PROJECTION}.weight"))


def from_original(tensors: Mapping[str, Tensor], autoencoder: DCAE) -> dict[str, Tensor]:
    """Rename and split weights in the original layout, of the shapes of ``original_shapes``."""
    renamed: dict[str, Tensor] = {}
    for there, here in original_names(autoencoder).items():
        if there in tensors:
            tensor = tensors[there].flatten(1) if _is_1x1(there) else tensors[there]
            parts = tensor.chunk(len(here)) if len(here) > 1 else [tensor]
            renamed |= zip(here, parts, strict=True)
    return renamed
