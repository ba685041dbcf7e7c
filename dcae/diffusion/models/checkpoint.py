# SPDX-License-Identifier: Apache-2.0
"""Saves and loads a denoiser: ``config.json``, and ``model.safetensors`` with the same configuration in its header."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dcae.benchmark.entries import DiffusionEntry
from dcae.benchmark.record import write_atomically
from dcae.diffusion.models.build import ARCHITECTURE, DenoiserConfig, denoiser_from_config
from dcae.files import replacing
from dcae.weights.catalogue import WeightsError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_denoiser(denoiser: nn.Module, folder: Path | str, metadata: dict[str, Any] | None = None) -> None:
    """Write a denoiser; the weights are renamed into place last, so a folder with weights is complete.

    Args:
        denoiser: from ``build_denoiser``.
        folder: created if missing; an older denoiser in it is replaced.
        metadata: any JSON, such as the identity of the training.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps({"denoiser": asdict(denoiser.config), "metadata": metadata or {}}, indent=1)
    (folder / WEIGHTS).unlink(missing_ok=True)
    write_atomically(folder / CONFIG, config + "\n")
    weights = {name: value.detach().cpu().contiguous() for name, value in denoiser.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"config": config})


def _read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's configuration after checking that file and weights agree on it."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder / name}: no such file; the denoiser was not saved, or not completely")
    text = (folder / CONFIG).read_text(encoding="utf-8")
    try:
        with safe_open(folder / WEIGHTS, "pt") as weights:
            inside = (weights.metadata() or {}).get("config")
    except SafetensorError as error:
        raise WeightsError(f"{folder / WEIGHTS} is damaged ({error}); save the denoiser again") from error
    if inside != text.rstrip("\n"):
        raise WeightsError(f"{folder}: {CONFIG} is not the one that {WEIGHTS} was saved with; save the denoiser again")
    return json.loads(text)


def load_denoiser(
    folder: Path | str, entry: DiffusionEntry | None = None, device: torch.device | str = "cpu", **expected: Any
) -> nn.Module:
    """Load a denoiser of ``save_denoiser`` in evaluation mode, with its ``metadata`` as an attribute.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        entry: required architecture.
        device: of the weights.
        expected: other required fields of ``DenoiserConfig``, such as ``latent_channels=32``; with an entry,
            ``classes`` are those of the data.

    Raises:
        WeightsError: the folder is incomplete or damaged, or a field differs from the expected value.
    """
    folder = Path(folder)
    content = _read_config(folder)
    config = DenoiserConfig(**content["denoiser"])
    if entry is not None:
        expected |= {field: getattr(entry, field) for field in ARCHITECTURE}
        if "classes" in expected:
            expected["classes"] = entry.classes(expected["classes"])
    differences = [
        f"{field} is {getattr(config, field)!r}, expected {value!r}"
        for field, value in expected.items()
        if getattr(config, field) != value
    ]
    if differences:
        raise WeightsError(f"{folder} holds another denoiser: {'; '.join(differences)}")
    denoiser = denoiser_from_config(config)
    denoiser.load_state_dict(load_file(folder / WEIGHTS))
    denoiser.metadata = content["metadata"]
    return denoiser.to(device).eval()
