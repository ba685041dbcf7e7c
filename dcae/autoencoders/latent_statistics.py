# SPDX-License-Identifier: Apache-2.0
"""Scale and shift of released latents: in an entry, in the release's ``config.json``, or in its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcae.autoencoders import folder
from dcae.autoencoders.contract import Autoencoder, PerChannel
from dcae.benchmark.entries import Conventions, DiffusersEntry
from dcae.weights.catalogue import WeightsError

FIELDS = {
    "scaling_factor": "latent_scale",
    "shift_factor": "latent_shift",
    "latents_mean": "latent_shift",
    "latents_std": "latent_std",
}
"""Numbers in a ``config.json`` of diffusers, and the field of an entry that says the same."""


def entry_scale(entry: DiffusersEntry) -> PerChannel | None:
    """``latent_scale`` of an entry, also where it gives ``latent_std``."""
    return [1 / std for std in entry.latent_std] if entry.latent_std else entry.latent_scale


def settle(autoencoder: Autoencoder, model: nn.Module, stored: Mapping[str, Any], place: Path) -> None:
    """Set an autoencoder's scale and shift as its entry's conventions say.

    The entry is the truth, and what the release says besides must agree with it.

    Args:
        autoencoder: of an entry of kind ``diffusers``; its scale and shift are those of the entry so far.
        model: the class of diffusers with the released weights.
        stored: content of the release's ``config.json``, without the defaults of the class: a number that only stands
            there says nothing about these weights.
        place: of that file, for errors.

    Raises:
        WeightsError: the entry and ``config.json`` differ; names both fields and values.
    """
    entry: DiffusersEntry = autoencoder.entry
    conventions = entry.conventions or Conventions()
    if conventions.latent_statistics == "batch-norm":
        _take_batch_norm(autoencoder, model, conventions, place)
    if conventions.latent_statistics == "config":
        _compare(entry, stored, place)
        if entry_scale(entry) is None:
            shift = autoencoder.latent_shift
            folder.take_latent_statistics(autoencoder, dict(stored), place)
            autoencoder.latent_shift = shift if entry.latent_shift is not None else autoencoder.latent_shift


def _compare(entry: DiffusersEntry, stored: Mapping[str, Any], place: Path) -> None:
    for theirs, ours in FIELDS.items():
        said, given = stored.get(theirs), getattr(entry, ours)
        if theirs == "shift_factor" and said is not None and given is None and entry_scale(entry) is not None:
            given = 0.0  # an entry with a scale and no shift has none
        if said is None or given is None or _equal(said, given):
            continue
        raise WeightsError(
            f"{place}: {theirs} is {said}, but {ours} of autoencoder {entry.name} is {given}: either these are the "
            f"weights of another model, or the entry is wrong (with conventions: {{latent_statistics: entry}} only the "
            "entry counts)"
        )


def _equal(said: PerChannel, given: PerChannel) -> bool:
    said, given = (value if isinstance(value, list) else [value] for value in (said, given))
    return len(said) == len(given) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(said, given, strict=True)
    )


def _take_batch_norm(autoencoder: Autoencoder, model: nn.Module, conventions: Conventions, place: Path) -> None:
    norm = getattr(model, "bn", None)
    channels = autoencoder.latent_channels
    if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != channels:
        found = "no BatchNorm bn" if norm is None else f"bn: {norm}"
        raise WeightsError(
            f"{place}: latent_statistics is batch-norm, but {type(model).__name__} has {found}, expected one of "
            f"{channels} channels, those of the entry"
        )
    if norm.running_mean.is_meta:
        return
    autoencoder.latent_shift = norm.running_mean.tolist()
    autoencoder.latent_scale = torch.rsqrt(norm.running_var.double() + norm.eps).tolist()
