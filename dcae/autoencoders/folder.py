# SPDX-License-Identifier: Apache-2.0
"""An autoencoder on disk, in diffusers' layout: ``config.json`` and ``diffusion_pytorch_model.safetensors``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcae.autoencoders.contract import Autoencoder
from dcae.benchmark.record import write_atomically
from dcae.files import replacing
from dcae.weights.catalogue import WeightsError

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def write(folder: Path, config: dict[str, Any], module: nn.Module) -> None:
    """Write a folder; each file appears complete by a rename, the weights last."""
    folder = Path(folder)
    write_atomically(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def read_config(folder: Path) -> dict[str, Any]:
    """Content of ``config.json``; raises ``WeightsError`` if it is missing or not JSON."""
    path = Path(folder) / CONFIG
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; expected an autoencoder saved in diffusers' layout") from None
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON: {error}") from error


def read_weights(folder: Path, module: nn.Module) -> None:
    """Load the weights of a folder into a module, in place; on the meta device only names and shapes are checked.

    Raises:
        WeightsError: no such file, or names or shapes differ; names the file and the first differences.
    """
    read_file(Path(folder) / WEIGHTS, module)


def read_file(path: Path, module: nn.Module) -> None:
    """As ``read_weights``, from one file."""
    compare(path, read_shapes(path), {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
    if all(parameter.is_meta for parameter in module.parameters()):
        return
    module.load_state_dict(read_tensors(path), strict=False)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor in a file, without reading it; raises ``WeightsError`` if that cannot be had."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected safetensors weights in diffusers' layout")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or cut short: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor in a file."""
    return load_file(path)


def compare(
    path: Path, stored: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], what: str = "autoencoder"
) -> None:
    """Raise ``WeightsError`` if names or shapes in a file differ from what a model has."""
    # Some files leave out the counter of BatchNorm, which a fixed momentum never reads.
    missing = [name for name in wanted if name not in stored and not name.endswith("num_batches_tracked")]
    unknown = [name for name in stored if name not in wanted]
    differing = [
        f"{name} is {list(stored[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in stored and stored[name] != shape
    ]
    problems = [
        f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("not in the model", unknown), ("of another shape", differing))
        if names
    ]
    if problems:
        raise WeightsError(f"{path} does not fit the {what}: {'; '.join(problems)}")


def put_latent_statistics(autoencoder: nn.Module, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the autoencoder's latent scale and shift under diffusers' names for them."""
    statistics = {"scaling_factor": autoencoder.latent_scale, "shift_factor": autoencoder.latent_shift or None}
    return {**config, **{name: value for name, value in statistics.items() if value is not None or name in config}}


def take_latent_statistics(autoencoder: Autoencoder, config: dict[str, Any], path: Path | str) -> None:
    """Set latent scale and shift from a configuration in diffusers' names."""
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise WeightsError(
            f"{path}: latents_mean and latents_std are used in different ways by different models; "
            "give latent_scale and latent_shift in the entry"
        )
    autoencoder.latent_scale = config.get("scaling_factor")
    autoencoder.latent_shift = config.get("shift_factor") or 0.0
