# SPDX-License-Identifier: Apache-2.0
"""Reads the embedded captions that ``encode_captions`` wrote.

Shards hold ``embeddings`` float16 [n, T, C] and ``mask`` bool [n, T], one row for each image and, as the very last one,
the empty caption, which stands in for captions that are dropped. float16 rounds to 11 bits where bfloat16 keeps 8, and
what T5's last norm puts out lies far within its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcae.shards import CacheError, check_identity, open_shards, read_index, verify

NAMES = ("embeddings", "mask")


class Captions(NamedTuple):
    """Embeddings of captions, padded to T tokens, and which of them are the caption's."""

    embeddings: Tensor  # [B, T, C]
    mask: Tensor  # bool [B, T]


class CaptionDataset:
    """Embedded captions that ``encode_captions`` wrote, mapped into memory.

    Attributes:
        tokens, channels: T and C.
        empty: of the empty caption, embeddings float16 [1, T, C] and mask bool [1, T].
        identity: what made them.

    Args:
        folder: with ``index.json``.
        expected_identity: what must have made the captions.
        rows: which of the folder's captions these are, int64 [N], by default all; for images that are some of those
            whose captions were embedded.

    Raises:
        CacheError: nothing complete is there, something else made it, a shard is damaged, or a row is not there.
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
        whole = self._index["count"] - 1  # the last one is empty
        self.rows = np.arange(whole) if rows is None else rows
        if self.rows.max(initial=-1) >= whole:
            raise CacheError(
                f"{self.folder} holds {whole} captions, row {self.rows.max()} is asked for: embed them again"
            )
        self.empty = self._rows([whole])

    def __len__(self) -> int:
        return len(self.rows)

    def check_number(self, count: int, whose: str) -> None:
        """Raise ``CacheError`` unless there is one caption for each of so many images."""
        if len(self) != count:
            raise CacheError(f"{self.folder} holds {len(self)} captions, but {whose} of {count}: encode both again")

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embeddings float16 [B, T, C] and mask bool [B, T]; raises ``IndexError`` outside 0 ... N - 1."""
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

    def verify(self) -> None:
        """Read every shard and raise ``CacheError`` for one whose sha256 is not that of the index."""
        verify(self.folder, self._index)
