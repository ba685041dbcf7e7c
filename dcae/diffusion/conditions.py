# SPDX-License-Identifier: Apache-2.0
"""Conditioning inputs (class or caption) and their null versions for classifier-free guidance.

The null class is the denoiser's ``null_label``. The null caption has the embeddings and mask of the empty caption, as
in diffusers' pipeline of the released PixArt-α. Its authors train with embeddings drawn at random once, under the mask
of the dropped caption (PixArt-alpha/PixArt-alpha ``PixArt_blocks.py``, CaptionEmbedder).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from dcae.diffusion.captions.dataset import Captions

# Labels int64 [B] in 0 ... classes (all 0 and ignored by an unconditional denoiser), or captions.
Condition = Tensor | Captions


class EmbeddedCaptions(Protocol):
    """Captions by index, as ``CaptionDataset``: embeddings [B, T, C] and mask [B, T]."""

    empty: tuple[Tensor, Tensor]

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]: ...


def on_device(captions: tuple[Tensor, Tensor], device: torch.device, dtype: torch.dtype) -> Captions:
    """Return captions, stored in float16, as the denoiser's input."""
    embeddings, mask = captions
    return Captions(embeddings.to(device, dtype), mask.to(device))


def null_condition(denoiser: nn.Module, condition: Condition, empty: Captions | None) -> Condition:
    """Return the null condition for a batch; ``empty`` holds one caption [1, T, C], [1, T]."""
    if isinstance(condition, Captions):
        return Captions(*(each.expand(len(condition.mask), *each.shape[1:]) for each in empty))
    return torch.full_like(condition, denoiser.null_label)


def joined(first: Condition, second: Condition) -> Condition:
    """Concatenate two batches."""
    if isinstance(first, Captions):
        return Captions(*(torch.cat(each) for each in zip(first, second, strict=True)))
    return torch.cat([first, second])


def part(condition: Condition, rows: slice) -> Condition:
    """Return rows of a batch."""
    return Captions(*(each[rows] for each in condition)) if isinstance(condition, Captions) else condition[rows]
