# SPDX-License-Identifier: Apache-2.0
"""What a denoiser is told besides noisy latents and timestep: a class, a caption or nothing; and how that is left out.

A class is left out by the denoiser's ``null_label``. A caption is left out by the embeddings and mask of the empty
caption, as diffusers' pipeline does for the released PixArt-α. Its authors train with embeddings that are drawn at
random once, under the mask of the caption left out (PixArt-alpha/PixArt-alpha ``PixArt_blocks.py``, CaptionEmbedder).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from dcae.diffusion.captions.dataset import Captions

# Labels int64 [B] in 0 ... classes (of an unconditional denoiser all 0, and not looked at), or captions.
Condition = Tensor | Captions


class EmbeddedCaptions(Protocol):
    """What samples are conditioned on, as ``CaptionDataset``: embeddings [B, T, C] and mask [B, T] by index."""

    empty: tuple[Tensor, Tensor]

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]: ...


def on_device(captions: tuple[Tensor, Tensor], device: torch.device, dtype: torch.dtype) -> Captions:
    """Captions as a denoiser takes them, of embeddings that are kept in float16."""
    embeddings, mask = captions
    return Captions(embeddings.to(device, dtype), mask.to(device))


def null_condition(denoiser: nn.Module, condition: Condition, empty: Captions | None) -> Condition:
    """As many times nothing as there are conditions; ``empty`` holds one caption [1, T, C], [1, T]."""
    if isinstance(condition, Captions):
        return Captions(*(each.expand(len(condition.mask), *each.shape[1:]) for each in empty))
    return torch.full_like(condition, denoiser.null_label)


def joined(first: Condition, second: Condition) -> Condition:
    """Both as one batch."""
    if isinstance(first, Captions):
        return Captions(*(torch.cat(each) for each in zip(first, second, strict=True)))
    return torch.cat([first, second])


def part(condition: Condition, rows: slice) -> Condition:
    """Some rows of a batch."""
    return Captions(*(each[rows] for each in condition)) if isinstance(condition, Captions) else condition[rows]
