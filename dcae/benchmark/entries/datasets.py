# SPDX-License-Identifier: Apache-2.0
"""Data set entries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from dcae.benchmark.entries.base import Entry


class ScenesEntry(Entry):
    """Procedural scenes: image ``i`` of a split is a pure function of (seed, split, i) at any resolution."""

    kind: Literal["scenes"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    train_images: PositiveInt
    validation_images: PositiveInt


class PhotographsEntry(Entry):
    """Crops of the photographs that scikit-image ships; training and validation pictures are disjoint."""

    kind: Literal["photographs"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    train_images: PositiveInt
    validation_images: PositiveInt


class FolderEntry(Entry):
    """Any folder of images: ``path/train`` and ``path/validation``, sub-folders being classes if there are any."""

    kind: Literal["folder"]
    paper_name: str | None = None
    path: str
    train: str = "train"
    validation: str = "validation"


DatasetEntry = Annotated[ScenesEntry | PhotographsEntry | FolderEntry, Field(discriminator="kind")]
