# SPDX-License-Identifier: Apache-2.0
"""The files of cached latents: where they lie in a folder, and how one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX, IDENTITY = "index.json", "identity.json"


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}.safetensors"


def shard_lengths(count: int, shard_size: int) -> list[int]:
    """How many images each shard holds: all but the last one ``shard_size``."""
    return [min(shard_size, count - start) for start in range(0, count, shard_size)]


def open_shard(path: Path, count: int, shape: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Latents [count, c, h, w], mapped from the file and not read yet, and labels [count].

    Raises:
        ValueError: the file is missing, cut short, or holds something else.
    """
    try:
        with safe_open(path, "pt") as shard:
            latents, labels = shard.get_tensor("latents"), shard.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: no whole shard of latents ({error}); delete it and encode again") from error
    expected = (count, *(shape or latents.shape[1:]))
    if tuple(latents.shape) != expected or len(labels) != count:
        raise ValueError(
            f"{path}: holds latents {tuple(latents.shape)} and {len(labels)} labels, expected {expected} and {count}; "
            "delete it and encode again"
        )
    return latents, labels
