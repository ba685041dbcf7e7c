# SPDX-License-Identifier: Apache-2.0
"""Reads cached latents, the output of ``encode_dataset``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.latents.posterior import normalised, posterior_noise
from dcae.diffusion.models.embeddings import check_labels
from dcae.shards import check_files, check_identity, latent_names, open_shards, read_index


class LatentDataset:
    """Memory-mapped latents of ``encode_dataset``.

    Attributes:
        shape: (c, h, w).
        classes: number of classes, 0 if there are none.
        labels: int64 [N].
        posterior: ``mode``, ``sample``, or ``moments`` to sample anew for every batch.
        latent_scale, latent_shift: latents are normalised as (latents - shift) * scale.
        identity: everything that decided them (autoencoder, weights, images, ...).

    Args:
        folder: with ``index.json``.
        expected_identity: raise ``CacheError`` for latents of another identity.
        captions: of the same images, for denoisers conditioned on them.

    Raises:
        CacheError: the folder is incomplete, of another identity or damaged, or the captions are of other images.
        ValueError: a label is outside the classes.
    """

    def __init__(
        self,
        folder: Path | str,
        expected_identity: dict[str, Any] | None = None,
        captions: CaptionDataset | None = None,
    ):
        self.folder = Path(folder)
        self._index = read_index(self.folder, "the dataset")
        self.identity = self._index["identity"]
        check_identity(self.folder, "latents", self.identity, expected_identity)
        self.shape = tuple(self._index["shape"])
        self.classes = len(self._index["classes"])
        self.posterior = self._index["posterior"]
        self.latent_scale, self.latent_shift = self._index["latent_scale"], self._index["latent_shift"]
        names = latent_names(self.posterior)
        self._shard_size = self._index["shard_size"]
        opened = open_shards(self.folder, self._index, (*names, "labels"), (*[self.shape] * len(names), ()))
        self._parts = [[shard[name].numpy() for shard in opened] for name in names]
        self.labels = torch.cat([shard["labels"] for shard in opened])
        check_labels(self.labels, max(self.classes, 1))
        self.captions = captions
        if captions is not None:
            captions.check_number(len(self), f"{self.folder} holds latents")

    def __len__(self) -> int:
        return self._index["count"]

    def condition(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """Return labels [B], or captions' embeddings [B, T, C] and masks [B, T]."""
        if self.captions is not None:
            return self.captions.batch(indices)
        return (self.labels[torch.tensor(indices)],)

    def read(self, indices: Sequence[int], draws: Sequence[int], seed: int) -> tuple[Tensor, ...]:
        """Return normalised latents [B, c, h, w]; draw i decides the posterior sample of image ``indices[i]``."""
        noise = posterior_noise(seed, draws, self.shape) if self.posterior == "moments" else None
        return self.batch(indices, noise)[:1]

    def latents(self, latents: Tensor) -> Tensor:
        """Return the result of ``read`` unchanged; ``EncodedOnTheFly`` encodes it here."""
        return latents

    def batch(self, indices: Sequence[int] | Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised latents [B, c, h, w] and labels [B].

        Args:
            indices: of images.
            noise: standard normal [B, c, h, w], to sample posteriors whose moments are cached; without it their means
                are returned.

        Raises:
            IndexError: an index outside 0 ... N - 1.
            ValueError: noise is given, but no moments are cached.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{self.folder} holds {len(self)} latents, index {indices.max()} is asked for")
        if noise is not None and self.posterior != "moments":
            raise ValueError(f"{self.folder}: posterior is {self.posterior}, so nothing is left to draw")
        parts = [self._gathered(shards, indices) for shards in (self._parts if noise is not None else self._parts[:1])]
        latents = normalised(self, *parts, noise) if noise is not None else normalised(self, *parts)
        return latents, self.labels[torch.from_numpy(indices)]

    def _gathered(self, shards: list[np.ndarray], indices: np.ndarray) -> Tensor:
        """Copy single latents out of the mapped shards; numpy copies one faster than torch."""
        found = np.empty((len(indices), *self.shape), dtype=np.float32)
        for row, index in zip(found, indices.tolist(), strict=True):
            row[...] = shards[index // self._shard_size][index % self._shard_size]
        return torch.from_numpy(found)

    def check_files(self) -> None:
        """Check sizes and time stamps of the shards (``shards.check_files``); raises ``CacheError``."""
        check_files(self.folder, self._index)
