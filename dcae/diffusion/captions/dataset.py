# SPDX-License-Identifier: Apache-2.0
"""Reads embedded captions, the output of ``encode_captions``.

Shards hold ``embeddings`` float16 [n, T, C] and ``mask`` bool [n, T], one row per image and, as the last row, the empty
caption, which replaces dropped captions. float16 has 11 significant bits where bfloat16 has 8, and the outputs of T5's
last norm are far within its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcae.shards import CacheError, check_files, check_identity, open_shards, read_index

NAMES = ("embeddings", "mask")


class Captions(NamedTuple):
    """Embeddings of captions, padded to T tokens, and the mask of the captions' own tokens."""

    embeddings: Tensor  # [B, T, C]
    mask: Tensor  # bool [B, T]


class CaptionDataset:
    """Memory-mapped captions of ``encode_captions``.

    Attributes:
        tokens, channels: T and C.
        empty: the empty caption, embeddings float16 [1, T, C] and mask bool [1, T].
        identity: everything that decided them (text encoder, captions, ...).

    Args:
        folder: with ``index.json``.
        expected_identity: raise ``CacheError`` for captions of another identity.
        rows: the rows of the folder to use, int64 [N], where only some of the images are used; defaults to all.

    Raises:
        CacheError: the folder is incomplete, of another identity or damaged, or has no such row.
    """

    def __init__(
        self, folder: Path | str, expected_identity: dict[str, Any] | None = None, rows: np.ndarray | None = None
    ):
        self.folder = Path(folder)
        self._index = read_index(self.folder, "the captions")
        self.identity = self._index["identity"]
        check_identity(self.folder, "captions", self.identity, expected_identity)
        self.tokens, self.channels = self._index["shape"]
        shapes = ((self.tokens, self.channels), (self.tokens,))
        self._shards = open_shards(self.folder, self._index, NAMES, shapes)
        whole = self._index["count"] - 1  # the last row is the empty caption
        self.rows = np.arange(whole) if rows is None else rows
        if self.rows.max(initial=-1) >= whole:
            raise CacheError(
                f"{self.folder} holds {whole} captions, row {self.rows.max()} is asked for: embed them again"
            )
        self.empty = self._rows([whole])

    def __len__(self) -> int:
        return len(self.rows)

    def check_number(self, count: int, owner: str) -> None:
        """Raise ``CacheError`` unless there are ``count`` captions."""
        if len(self) != count:
            raise CacheError(f"{self.folder} holds {len(self)} captions, but {owner} of {count}: encode both again")

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return embeddings float16 [B, T, C] and mask bool [B, T]; raises ``IndexError`` outside 0 ... N - 1."""
        outside = [index for index in indices if not 0 <= index < len(self)]
        if outside:
            raise IndexError(f"{self.folder} holds {len(self)} captions, index {outside[0]} is asked for")
        return self._rows(self.rows[list(indices)])

    def _rows(self, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        places = [divmod(int(row), self._index["shard_size"]) for row in rows]
        embeddings, mask = ([self._shards[number][name][row] for number, row in places] for name in NAMES)
        if not places:
            return torch.empty(0, self.tokens, self.channels).half(), torch.empty(0, self.tokens).bool()
        return torch.stack(embeddings), torch.stack(mask)

    def check_files(self) -> None:
        """Check sizes and time stamps of the shards (``shards.check_files``); raises ``CacheError``."""
        check_files(self.folder, self._index)
