# SPDX-License-Identifier: Apache-2.0
"""Embeds a dataset's captions once, into shards (see ``dcae.shards``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.data.dataset import ImageDataset
from dcae.data.storage.files import DatasetError
from dcae.shards import Shard, write_shards

# Raise it when results change, and say below what each raise changed.
# 2: a caption file's byte-order mark is no text; its name is matched without regard to case and composition.
RESULTS_VERSION = 2

FORMAT = 1


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
    """Embed a dataset's captions, shard by shard, as ``encode_dataset`` encodes its images.

    Args:
        text_encoder: captions to embeddings [B, T, C] and mask [B, T], such as ``T5TextEncoder``.
        dataset: item i has the caption ``dataset.caption(i)``.
        folder: created if missing.
        identity: everything that decides the embeddings, as JSON.
        batch_size: captions at a time.
        shard_size: captions per shard.
        process, processes: this process takes the shards ``process``, ``process + processes``, ….
        progress: called with the number of this process's finished captions, and of all its captions.

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
            f"dataset {identity.get('dataset', 'unnamed')}: {len(without)} of {len(dataset)} images have no caption, "
            f"image {without[0]} first; a model with captions needs one for each (in a folder, a.txt next to a.jpg)"
        )
