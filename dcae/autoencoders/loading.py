# SPDX-License-Identifier: Apache-2.0
"""Loads the autoencoder of an entry, and saves it as a folder."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcae.autoencoders import contract, folder
from dcae.autoencoders.contract import Autoencoder
from dcae.benchmark.config import Config, ConfigError, make_entry, read_entry
from dcae.benchmark.entries import (
    MEASURED,
    AutoencoderFields,
    Conventions,
    DCAEEntry,
    DiffusersEntry,
    PythonEntry,
    SpaceToChannelEntry,
)
from dcae.initialisation import SkipInitialisation
from dcae.weights.catalogue import WeightsError


def load(
    entry: str | Path | Mapping[str, Any] | AutoencoderFields,
    weights: Path | None = None,
    config: Config | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    untrained: bool = False,
) -> Autoencoder:
    """Return the autoencoder of an entry, in evaluation mode.

    Args:
        entry: name of an entry, path of a YAML file, mapping of an entry's fields, or an entry.
        weights: folder of a trained autoencoder (for ``space-to-channel``: of the one below). Defaults to released
            weights if the entry has ``pretrained``, and to random weights otherwise.
        config: where names are looked up; defaults to the repository's ``config``.
        device: ``meta`` builds shapes without memory or weights.
        seed: of random weights, which are the same on every device. The global random state is left unchanged.
        untrained: random weights are wanted; without it, a warning tells of them.

    Raises:
        ConfigError: the entry is wrong, or foreign code violates the contract.
        WeightsError: weights are missing, incomplete, of another architecture, or cannot be downloaded.
    """
    config = config or Config()
    entry = as_entry(entry, config)
    if is_measured := entry.latent_scale == MEASURED:
        entry = without_scale(entry)
    device = torch.device(device)
    if not (untrained or weights or device.type == "meta") and has_random_weights(entry):
        warnings.warn(
            f"autoencoder {entry.name} has random weights: it is trained here, so give weights=FOLDER "
            "(results/<benchmark>/autoencoders/<autoencoder>/<last phase>)",
            stacklevel=2,
        )
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
        torch.default_generator.manual_seed(seed)
        autoencoder = _build(entry, weights, config, device, seed, untrained)
    if entry.latent_scale is not None or is_measured:
        autoencoder.latent_scale = entry.latent_scale
    if entry.latent_shift is not None:
        autoencoder.latent_shift = entry.latent_shift
    try:
        autoencoder.to(device).eval()
    except NotImplementedError as error:  # parameters without values
        raise ConfigError(f"autoencoder {entry.name}: {error}") from error
    if not isinstance(entry, DCAEEntry):
        contract.check(autoencoder, entry)
    return _tiled(autoencoder, entry) if entry.tiling else autoencoder


def without_scale(entry: AutoencoderFields) -> AutoencoderFields:
    """Return an entry without a latent scale, neither its own nor that of a release's ``config.json``."""
    changes: dict[str, Any] = {"latent_scale": None}
    if isinstance(entry, DiffusersEntry):
        conventions = entry.conventions or Conventions()
        changes["conventions"] = conventions.model_copy(update={"latent_statistics": "entry"})
    return entry.model_copy(update=changes)


def has_random_weights(entry: AutoencoderFields) -> bool:
    """Return whether an entry has neither released weights nor code of its own; one on top of another says nothing."""
    return entry.kind in ("dc-ae", "diffusers") and not entry.pretrained


def _tiled(autoencoder: nn.Module, entry: AutoencoderFields) -> Autoencoder:
    from dcae.autoencoders.tiling import Tiled

    try:
        return Tiled(autoencoder, entry.tiling)
    except ValueError as error:
        raise ConfigError(f"autoencoder {entry.name}: {error}") from error


def as_entry(entry: str | Path | Mapping[str, Any] | AutoencoderFields, config: Config) -> AutoencoderFields:
    """Return the entry that a name, the path of a YAML file, or a mapping of fields stands for."""
    if isinstance(entry, AutoencoderFields):
        return entry
    if isinstance(entry, Mapping):
        return make_entry("autoencoders", {"name": "unnamed", **entry}, "autoencoder given as a mapping", config)
    if Path(entry).suffix in (".yaml", ".yml"):
        return read_entry("autoencoders", Path(entry))
    return config.entry("autoencoders", str(entry))


def _build(
    entry: AutoencoderFields,
    weights: Path | None,
    config: Config,
    device: torch.device,
    seed: int,
    untrained: bool,
) -> Autoencoder:
    if isinstance(entry, DCAEEntry):
        return _build_dc_ae(entry, weights, device)
    if isinstance(entry, DiffusersEntry):
        return _build_diffusers(entry, weights, device, seed)
    if isinstance(entry, SpaceToChannelEntry):
        from dcae.autoencoders.space_to_channel import SpaceToChannel

        below = load(entry.autoencoder, weights, config, device, seed, untrained)
        return SpaceToChannel(below, entry.factor)
    return _build_python(entry, weights)


def _build_dc_ae(entry: DCAEEntry, weights: Path | None, device: torch.device) -> Autoencoder:
    from dcae.autoencoders.dc_ae import DCAE
    from dcae.autoencoders.dc_ae_config import difference
    from dcae.autoencoders.released import read_released

    released = weights is None and entry.pretrained is not None and device.type != "meta"
    try:
        with SkipInitialisation() if released else nullcontext():
            autoencoder = DCAE(entry)
    except ValueError as error:
        raise ConfigError(f"autoencoder {entry.name}: {error}") from error
    if released:
        read_released(entry, autoencoder)
    if weights is not None:
        stored = folder.read_config(weights)
        other = difference(stored, entry)
        if other:
            raise WeightsError(f"{Path(weights) / folder.CONFIG} is of another autoencoder: {other}")
        folder.read_weights(weights, autoencoder)
        folder.take_latent_statistics(autoencoder, stored, Path(weights) / folder.CONFIG)
    return autoencoder


def _build_diffusers(entry: DiffusersEntry, weights: Path | None, device: torch.device, seed: int) -> Autoencoder:
    from dcae.autoencoders import from_diffusers
    from dcae.autoencoders.ldm import read_ldm

    if weights is None and entry.config is not None:
        released = entry.pretrained is not None and device.type != "meta"
        with SkipInitialisation() if released else nullcontext():
            autoencoder = from_diffusers.from_config(entry, seed)
        if released:
            read_ldm(entry, autoencoder)
        return autoencoder
    if weights is None:
        return from_diffusers.from_pretrained(entry, shapes_only=device.type == "meta")
    if entry.config is None:
        autoencoder = from_diffusers.from_folder(entry, Path(weights))
    else:
        autoencoder = from_diffusers.from_config(entry, seed)
    stored, path = folder.read_config(weights), Path(weights) / folder.CONFIG
    if stored.get("_class_name") != entry.class_name:
        raise WeightsError(f"{path}: _class_name is {stored.get('_class_name')!r}, expected {entry.class_name!r}")
    folder.read_weights(weights, autoencoder.model)
    if autoencoder.latent_scale is None:
        folder.take_latent_statistics(autoencoder, stored, path)
    return autoencoder


def _build_python(entry: PythonEntry, weights: Path | None) -> nn.Module:
    module_name, _, path = entry.factory.partition(":")
    try:
        factory = importlib.import_module(module_name)
        for name in path.split("."):
            factory = getattr(factory, name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"autoencoder {entry.name}: factory {entry.factory}: {error}; "
            "is its package installed here, or its folder in PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:  # foreign code
        raise ConfigError(f"autoencoder {entry.name}: importing {module_name}: {contract.told(error)}") from error
    call = f"autoencoder {entry.name}: {entry.factory}(**{entry.arguments})"
    try:
        with warnings.catch_warnings():  # of a factory that reads a checkpoint where shapes alone are asked for
            warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
            autoencoder = factory(**entry.arguments)
    except (ConfigError, WeightsError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # foreign code
        raise ConfigError(f"{call}: {contract.told(error)}") from error
    if not isinstance(autoencoder, nn.Module):
        raise ConfigError(f"{call}: returns {type(autoencoder).__name__}, expected a torch.nn.Module")
    of_the_entry = {"spatial_compression": entry.spatial_compression, "latent_channels": entry.latent_channels}
    for name, value in {**of_the_entry, "latent_scale": entry.latent_scale, "latent_shift": 0.0}.items():
        if not hasattr(autoencoder, name):
            setattr(autoencoder, name, value)
    if weights is not None:
        folder.read_weights(weights, autoencoder)
        folder.take_latent_statistics(autoencoder, folder.read_config(weights), Path(weights) / folder.CONFIG)
    return autoencoder


def save(autoencoder: nn.Module, path: Path) -> None:
    """Write an autoencoder with its latent scale and shift; ``load(entry, weights=path)`` reads it.

    diffusers' ``from_pretrained`` opens every diffusers autoencoder, and a DC-AE of the released architecture with any
    sizes; ``AutoencoderDC`` rejects any other DC-AE (see ``dc_ae_config``).

    Args:
        autoencoder: of ``load``, or any module; its weights become safetensors.
        path: folder to write; each file is renamed into place once complete.
    """
    module, config = autoencoder, {"_class_name": f"{type(autoencoder).__module__}.{type(autoencoder).__qualname__}"}
    entry = getattr(autoencoder, "entry", None)
    if isinstance(entry, DCAEEntry):
        from dcae.autoencoders.dc_ae_config import config_of

        config = config_of(entry)
    elif isinstance(entry, DiffusersEntry):
        module, config = autoencoder.model, json.loads(autoencoder.model.to_json_string())
    folder.write(Path(path), folder.put_latent_statistics(autoencoder, config), module)
