# SPDX-License-Identifier: Apache-2.0
"""Reads the latents that ``encode_dataset`` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.autoencoders import normalise
from dcae.diffusion.embeddings import check_labels
from dcae.diffusion.shards import INDEX, open_shard, shard_lengths, shard_path
from dcae.files import sha256


class LatentDataset:
    """Latents that ``encode_dataset`` wrote, mapped into memory.

    Attributes:
        shape: (c, h, w).
        classes: number of classes, 0 if there are none.
        class_names: their names.
        labels: int64 [N].
        mean, std: of each channel before normalisation, [c].
        latent_scale, latent_shift: latents are normalised as (latents - shift) * scale.
        identity: what made the latents.

    Args:
        folder: with ``index.json``.
        expected_identity: what must have made the latents.

    Raises:
        FileNotFoundError: nothing complete is there.
        ValueError: something else made the latents, or a shard is damaged.
    """

    def __init__(self, folder: Path | str, expected_identity: dict[str, Any] | None = None):
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise FileNotFoundError(f"{self.folder / INDEX}: no such file; encode the data set (again) to complete it")
        self._index = json.loads((self.folder / INDEX).read_text())
        self.identity = self._index["identity"]
        if expected_identity is not None:
            self._check_identity(expected_identity)
        self.shape = tuple(self._index["shape"])
        self.class_names = self._index["classes"]
        self.classes = len(self.class_names)
        self.mean, self.std = torch.tensor(self._index["mean"]), torch.tensor(self._index["std"])
        self.latent_scale, self.latent_shift = self._index["latent_scale"], self._index["latent_shift"]
        lengths = shard_lengths(len(self), self._index["shard_size"])
        opened = [open_shard(shard_path(self.folder, n), length, self.shape) for n, length in enumerate(lengths)]
        self._shards = [latents for latents, _ in opened]
        self.labels = torch.cat([labels for _, labels in opened])
        check_labels(self.labels, max(self.classes, 1))

    def _check_identity(self, expected: dict[str, Any]) -> None:
        actual, expected = self.identity, json.loads(json.dumps(expected))
        differences = [
            f"{field} {actual.get(field)!r}, expected {expected.get(field)!r}"
            for field in sorted(actual | expected)
            if actual.get(field) != expected.get(field)
        ]
        if differences:
            raise ValueError(
                f"{self.folder}: these latents were made by something else: {'; '.join(differences)}; encode again"
            )

    def __len__(self) -> int:
        return self._index["count"]

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Normalised latents [B, c, h, w] and labels [B]; raises ``IndexError`` for an index outside 0 ... N - 1."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"{self.folder} holds {len(self)} latents, index {int(indices.max())} is asked for")
        numbers, offsets = indices // self._index["shard_size"], indices % self._index["shard_size"]
        latents = torch.empty(len(indices), *self.shape)
        for number in numbers.unique():
            here = numbers == number
            latents[here] = self._shards[number][offsets[here]]
        return normalise(self, latents), self.labels[indices]

    def verify(self) -> None:
        """Read every shard and raise ``ValueError`` for one whose sha256 is not that of the index."""
        for name, expected in self._index["shards"].items():
            if sha256(self.folder / name) != expected:
                raise ValueError(f"{self.folder / name}: damaged (sha256 differs); delete it and encode again")
