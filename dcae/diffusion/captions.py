# SPDX-License-Identifier: Apache-2.0
"""A data set's captions, embedded once: shards, as of latents (module ``shards``), that ``CaptionDataset`` reads.

Shards hold ``embeddings`` float16 [n, T, C] and ``mask`` bool [n, T], one row for each image and, as the very last one,
the empty caption, which stands in for captions that are dropped. float16 rounds to 11 bits where bfloat16 keeps 8, and
what T5's last norm puts out lies far within its range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.data.dataset import DatasetError, ImageDataset
from dcae.diffusion.shards import Shard, check_identity, open_shards, read_index, verify, write_shards

FORMAT = 1
NAMES = ("embeddings", "mask")


def encode_captions(
    text_encoder: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    dataset: ImageDataset,
    folder: Path | str,
    identity: dict[str, Any],
    batch_size: int = 32,
    shard_size: int = 1024,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Embed a data set's captions, shard by shard, as ``encode_dataset`` encodes its images.

    Args:
        text_encoder: captions to embeddings [B, T, C] and mask [B, T], such as ``T5TextEncoder``.
        dataset: item i has the caption ``dataset.caption(i)``.
        folder: made if need be.
        identity: what decides the embeddings, the text encoder above all, as JSON.
        batch_size: captions at a time.
        shard_size: captions per shard.
        process, processes: this process takes the shards ``process``, ``process + processes``, ….
        progress: called with the number of this process's captions that are done, and of all of them.

    Raises:
        DatasetError: an image has no caption.
        ValueError: embeddings are not finite in float16.
    """
    count = len(dataset)
    _check_captions(dataset, identity)
    plan = {"format": FORMAT, "identity": identity, "count": count + 1, "shard_size": shard_size}

    def make(start: int, length: int) -> Shard:
        captions = [dataset.caption(index) if index < count else "" for index in range(start, start + length)]
        parts = [text_encoder(captions[first : first + batch_size]) for first in range(0, length, batch_size)]
        embeddings = torch.cat([embeddings.half().cpu() for embeddings, _ in parts])
        if not embeddings.isfinite().all():
            raise ValueError("the text encoder's embeddings are not finite in float16; check its weights")
        return {"embeddings": embeddings, "mask": torch.cat([mask.bool().cpu() for _, mask in parts])}

    def summarise(shards: list[Shard]) -> dict[str, Any]:
        return {"shape": list(shards[0]["embeddings"].shape[1:])}

    write_shards(Path(folder), plan, make, summarise, process, processes, progress)


def _check_captions(dataset: ImageDataset, identity: dict[str, Any]) -> None:
    without = [index for index in range(len(dataset)) if not dataset.caption(index)]
    if without:
        raise DatasetError(
            f"data set {identity.get('dataset', 'unnamed')}: {len(without)} of {len(dataset)} images have no caption, "
            f"image {without[0]} first; a model with captions needs one for each (in a folder, a.txt beside a.jpg)"
        )


class CaptionDataset:
    """Embedded captions that ``encode_captions`` wrote, mapped into memory.

    Attributes:
        tokens, channels: T and C.
        empty: of the empty caption, embeddings float16 [1, T, C] and mask bool [1, T].
        identity: what made them.

    Raises:
        FileNotFoundError: nothing complete is there.
        ValueError: something else made them, or a shard is damaged.
    """

    def __init__(self, folder: Path | str, expected_identity: dict[str, Any] | None = None):
        self.folder = Path(folder)
        self._index = read_index(self.folder, "the captions")
        self.identity = self._index["identity"]
        check_identity(self.folder, "captions", self.identity, expected_identity)
        self.tokens, self.channels = self._index["shape"]
        shapes = ((self.tokens, self.channels), (self.tokens,))
        self._shards = open_shards(self.folder, self._index, NAMES, shapes)
        self.empty = self._rows([len(self)])

    def __len__(self) -> int:
        return self._index["count"] - 1

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embeddings float16 [B, T, C] and mask bool [B, T]; raises ``IndexError`` outside 0 ... N - 1."""
        outside = [index for index in indices if not 0 <= index < len(self)]
        if outside:
            raise IndexError(f"{self.folder} holds {len(self)} captions, index {outside[0]} is asked for")
        return self._rows(indices)

    def _rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        places = [divmod(int(index), self._index["shard_size"]) for index in indices]
        embeddings, mask = ([self._shards[number][name][row] for number, row in places] for name in NAMES)
        if not places:
            return torch.empty(0, self.tokens, self.channels).half(), torch.empty(0, self.tokens).bool()
        return torch.stack(embeddings), torch.stack(mask)

    def verify(self) -> None:
        """Read every shard and raise ``ValueError`` for one whose sha256 is not that of the index."""
        verify(self.folder, self._index)
