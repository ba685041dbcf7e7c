# SPDX-License-Identifier: Apache-2.0
"""Loads released denoisers: DiT, the DC-AE authors' DiT, U-ViT and USiT, and PixArt-α.

The DC-AE authors' files on the hub hold the averaged weights as ``diffusion_model.…`` together with the autoencoder;
their training checkpoints are pickles, which are rejected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dcae.autoencoders.folder import compare, read_shapes
from dcae.benchmark.entries import DiffusionEntry
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.dit import DiT
from dcae.diffusion.models.released_names import (
    POSITIONS,
    POSITIONS_OF_DIFFUSERS,
    authors_names,
    diffusers_shapes,
    from_diffusers,
    layout_and_prefix,
)
from dcae.weights.catalogue import WeightsError
from dcae.weights.hub import CONFIG, CONVERSION, find

CONVERSIONS = (
    f"{CONVERSION}; of a training's checkpoint of the DC-AE authors take next(iter(loaded['ema'].values())), of DiT's "
    "and U-ViT's loaded['ema']"
)
Shapes = dict[str, tuple[int, ...]]
NOT_USED = ("caption_projection.y_embedding",)  # in old files of PixArt-α: its training's null caption


def load_released(
    entry: DiffusionEntry,
    latent_channels: int,
    latent_size: int,
    patch_size: int,
    classes: int,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Load the denoiser of the entry's ``pretrained`` in evaluation mode; arguments as for ``build_denoiser``.

    Raises:
        WeightsError: the weights are missing, or of another architecture; names the file and the difference.
    """
    with torch.device(device):
        denoiser = build_denoiser(entry, latent_channels, latent_size, patch_size, classes)
    read_released(entry, denoiser)
    denoiser.metadata = {"pretrained": entry.pretrained.model_dump(mode="json", exclude_none=True)}
    return denoiser.eval()


def read_released(entry: DiffusionEntry, denoiser: nn.Module) -> None:
    """Load the weights of the entry's ``pretrained`` into its denoiser, in place; on the meta device only check them.

    Every name and shape is checked, diffusers' ``config.json``, and the position table in the file.

    Raises:
        WeightsError: the weights are missing, or are not the entry's; names the file and the difference.
    """
    path = denoiser.released_file = find(f"diffusion model {entry.name}", entry.pretrained, CONVERSIONS)
    stored = read_shapes(path)
    try:
        layout, prefix = layout_and_prefix(stored, denoiser)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    shapes = {name.removeprefix(prefix): shape for name, shape in stored.items() if name.startswith(prefix)}
    if layout == "diffusers":
        _check_config(path.with_name(CONFIG), denoiser)
    if not isinstance(denoiser, DiT) or layout == "authors":
        _read_renamed(path, prefix, shapes, denoiser, layout)
    else:
        _read_from_diffusers(path, prefix, shapes, denoiser)


def _read_renamed(
    path: Path, prefix: str, shapes: dict[str, tuple[int, ...]], denoiser: nn.Module, layout: str
) -> None:
    """A file whose tensors are those here under other names."""
    if layout == "authors":
        names = authors_names(denoiser, shapes)
    else:
        names = {name.removeprefix("transformer."): name for name in denoiser.state_dict()}
    own = denoiser.state_dict()
    wanted = {there: tuple(own[here].shape) for there, here in names.items()}
    positions = {"authors": POSITIONS, "diffusers": POSITIONS_OF_DIFFUSERS}[layout]
    fixed = positions in shapes and positions not in names
    _compare(path, prefix, shapes, wanted, {positions, *NOT_USED} if fixed else set(NOT_USED))
    if _is_meta(denoiser):
        return
    tensors = _tensors(path, prefix, [*names, *([positions] if fixed else [])])
    if fixed:
        _check_positions(path, tensors.pop(positions), denoiser)
    denoiser.load_state_dict({here: tensors[there] for there, here in names.items()})


def _read_from_diffusers(path: Path, prefix: str, shapes: Shapes, dit: DiT) -> None:
    fixed = POSITIONS_OF_DIFFUSERS in shapes
    _compare(path, prefix, shapes, diffusers_shapes(dit), {POSITIONS_OF_DIFFUSERS})
    if _is_meta(dit):
        return
    tensors = _tensors(path, prefix, shapes)
    if fixed:
        _check_positions(path, tensors.pop(POSITIONS_OF_DIFFUSERS), dit)
    try:
        dit.load_state_dict(from_diffusers(tensors, dit))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _compare(path: Path, prefix: str, shapes: Shapes, wanted: Shapes, ignored: set[str]) -> None:
    stored = {f"{prefix}{name}": shape for name, shape in shapes.items() if name not in ignored}
    compare(path, stored, {f"{prefix}{name}": shape for name, shape in wanted.items()}, "denoiser")


def _is_meta(denoiser: nn.Module) -> bool:
    return all(parameter.is_meta for parameter in denoiser.parameters())


def _tensors(path: Path, prefix: str, names: Iterable[str]) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(prefix + name) for name in names}


def _check_positions(path: Path, stored: Tensor, denoiser: nn.Module) -> None:
    """Check a file's fixed position table against the denoiser's; half precision has three digits."""
    own = denoiser.positions if isinstance(denoiser, DiT) else denoiser.transformer.pos_embed.pos_embed
    if stored.shape != own.shape or not torch.allclose(stored.to(own), own, atol=1e-3):
        raise WeightsError(
            f"{path}: its table of positions {list(stored.shape)} is not that of this denoiser {list(own.shape)}: "
            "the weights are for another latent size or patch size"
        )


def _check_config(path: Path, denoiser: nn.Module) -> None:
    """Check the fields of diffusers' ``config.json`` that shapes of weights do not determine."""
    if not path.is_file():
        return
    content, config = json.loads(path.read_text(encoding="utf-8")), denoiser.config
    expected = {
        "num_attention_heads": config.heads,
        "sample_size": config.latent_size,
        "patch_size": config.patch_size,
        "interpolation_scale": config.interpolation_scale,
    }
    differences = [
        f"{field} is {content[field]}, expected {value}"
        for field, value in expected.items()
        if value is not None and content.get(field) not in (None, value)
    ]
    if differences:
        raise WeightsError(f"{path} is of another denoiser: {'; '.join(differences)}")
