# SPDX-License-Identifier: Apache-2.0
"""An autoencoder's folder in diffusers' layout: configuration, safetensors weights, latent scale and shift."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder, PerChannel
from dcae.benchmark.entries import Conventions, DiffusersEntry
from dcae.benchmark.record import write_atomically
from dcae.files import replacing
from dcae.weights.catalogue import WeightsError

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def write(folder: Path, config: dict[str, Any], module: nn.Module) -> None:
    """Write a folder; each file is renamed into place once complete, the weights last."""
    folder = Path(folder)
    write_atomically(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.json``; raises ``WeightsError`` if it is missing or not JSON."""
    path = Path(folder) / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; expected an autoencoder saved in diffusers' layout") from None
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON: {error}") from error


def read_weights(folder: Path, module: nn.Module) -> None:
    """Load a folder's weights into a module, in place; on the meta device only check names and shapes.

    Raises:
        WeightsError: the file is missing, or names or shapes differ.
    """
    read_file(Path(folder) / WEIGHTS, module)


def read_file(path: Path, module: nn.Module) -> None:
    """Load the weights of one file into a module, as ``read_weights``."""
    compare(path, read_shapes(path), {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
    if all(parameter.is_meta for parameter in module.parameters()):
        return
    module.load_state_dict(read_tensors(path), strict=False)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file from its header; raises ``WeightsError`` for an unreadable file."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected safetensors weights in diffusers' layout")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or cut short: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor in a file."""
    return load_file(path)


def compare(
    path: Path, stored: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], what: str = "autoencoder"
) -> None:
    """Raise ``WeightsError`` if the names or shapes in a file differ from a model's."""
    # Some files leave out the counter of BatchNorm, which a fixed momentum never reads.
    missing = [name for name in wanted if name not in stored and not name.endswith("num_batches_tracked")]
    unknown = [name for name in stored if name not in wanted]
    differing = [
        f"{name} is {list(stored[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in stored and stored[name] != shape
    ]
    problems = [
        f"{problem}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for problem, names in (("missing", missing), ("not in the model", unknown), ("of another shape", differing))
        if names
    ]
    if problems:
        raise WeightsError(f"{path} does not fit the {what}: {'; '.join(problems)}")


def put_latent_statistics(autoencoder: nn.Module, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the autoencoder's latent scale and shift under diffusers' names."""
    statistics = {"scaling_factor": autoencoder.latent_scale, "shift_factor": autoencoder.latent_shift or None}
    return {**config, **{name: value for name, value in statistics.items() if value is not None or name in config}}


def take_latent_statistics(autoencoder: Autoencoder, config: dict[str, Any], path: Path | str) -> None:
    """Set latent scale and shift from a configuration in diffusers' names."""
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise WeightsError(
            f"{path}: latents_mean and latents_std have different meanings in different models; "
            "set latent_scale and latent_shift in the entry"
        )
    autoencoder.latent_scale = config.get("scaling_factor")
    autoencoder.latent_shift = config.get("shift_factor") or 0.0


# --- Latent scale and shift of released weights: from the entry, ``config.json`` or the weights -----------------------

# Numbers in a diffusers ``config.json``, and the field of an entry with the same meaning.
FIELDS = {
    "scaling_factor": "latent_scale",
    "shift_factor": "latent_shift",
    "latents_mean": "latent_shift",
    "latents_std": "latent_std",
}


def entry_scale(entry: DiffusersEntry) -> PerChannel | None:
    """Return an entry's latent scale, from ``latent_scale`` or ``latent_std``."""
    return [1 / std for std in entry.latent_std] if entry.latent_std else entry.latent_scale


def set_latent_statistics(autoencoder: Autoencoder, model: nn.Module, stored: Mapping[str, Any], config: Path) -> None:
    """Set an autoencoder's scale and shift by its entry's conventions.

    The entry takes precedence, and the release's own numbers must agree with it.

    Args:
        autoencoder: of an entry of kind ``diffusers``, with the entry's scale and shift.
        model: the diffusers model with the released weights.
        stored: content of the release's ``config.json`` without the defaults of the class, which say nothing about
            these weights.
        config: path of that file, for errors.

    Raises:
        WeightsError: the entry and ``config.json`` differ.
    """
    entry: DiffusersEntry = autoencoder.entry
    conventions = entry.conventions or Conventions()
    if conventions.latent_statistics == "batch-norm":
        _take_batch_norm(autoencoder, model, config)
    if conventions.latent_statistics == "config":
        _check_agreement(entry, stored, config)
        if entry_scale(entry) is None:
            shift = autoencoder.latent_shift
            take_latent_statistics(autoencoder, dict(stored), config)
            autoencoder.latent_shift = shift if entry.latent_shift is not None else autoencoder.latent_shift


def _check_agreement(entry: DiffusersEntry, stored: Mapping[str, Any], config: Path) -> None:
    for theirs, ours in FIELDS.items():
        released, given = stored.get(theirs), getattr(entry, ours)
        if theirs == "shift_factor" and released is not None and given is None and entry_scale(entry) is not None:
            given = 0.0  # an entry with a scale and no shift has none
        if released is None or given is None or _close(released, given):
            continue
        raise WeightsError(
            f"{config}: {theirs} is {released}, but {ours} of autoencoder {entry.name} is {given}: either these are "
            f"the weights of another model, or the entry is wrong (with conventions: {{latent_statistics: entry}} only "
            "the entry counts)"
        )


def _close(one: PerChannel, other: PerChannel) -> bool:
    one, other = (value if isinstance(value, list) else [value] for value in (one, other))
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(one, other, strict=True)
    )


def _take_batch_norm(autoencoder: Autoencoder, model: nn.Module, config: Path) -> None:
    norm = getattr(model, "bn", None)
    channels = autoencoder.latent_channels
    if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != channels:
        found = "no BatchNorm bn" if norm is None else f"bn: {norm}"
        raise WeightsError(
            f"{config}: latent_statistics is batch-norm, but {type(model).__name__} has {found}, expected one of "
            f"{channels} channels, those of the entry"
        )
    if norm.running_mean.is_meta:
        return
    autoencoder.latent_shift = norm.running_mean.tolist()
    autoencoder.latent_scale = torch.rsqrt(norm.running_var.double() + norm.eps).tolist()
