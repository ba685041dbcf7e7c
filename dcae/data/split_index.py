# SPDX-License-Identifier: Apache-2.0
"""The samples of a split: their files, order, labels and captions. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.data.storage.files import DatasetError, Files, state_of

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)

NONE = -1


@dataclass(frozen=True)
class SplitIndex:
    """The samples of one split, by index; equal for every layout of a dataset."""

    files: Files
    members: np.ndarray  # int64 [N], file numbers
    names: pa.StringArray  # [N], official names, equal in every layout
    labels: np.ndarray  # int64 [N]
    classes: list[str]
    captions: pa.StringArray | None = None  # [N]
    caption_members: np.ndarray | None = None  # int64 [N], numbers of the caption files, or NONE

    def __post_init__(self):
        if not len(self.members):
            raise DatasetError(f"{self.files.root}: no images in it for this split")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            index = int(np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))[0])
            raise DatasetError(
                f"{self.where(index)}: label {self.labels[index]} is out of range, {len(self.classes)} classes "
                f"go from 0 to {len(self.classes) - 1}; correct it, or `classes` in the entry"
            )

    def __len__(self) -> int:
        return len(self.members)

    @property
    def sizes(self) -> np.ndarray:
        """File sizes in bytes, int64 [N]."""
        return self.files.sizes[self.members]

    @property
    def text_state(self) -> str:
        """Return a hash of the captions, or of the names and sizes of the caption files."""
        if self.captions is not None:
            return state_of(self.captions, pc.binary_length(self.captions).to_numpy(zero_copy_only=False))
        if self.caption_members is None:
            return ""
        members = self.caption_members[self.caption_members != NONE]
        return state_of(self.files.names.take(pa.array(members)), self.files.sizes[members])

    def read(self, index: int) -> bytes:
        return self.files.read(int(self.members[index]))

    def where(self, index: int) -> str:
        return self.files.where(int(self.members[index]))

    def caption(self, index: int) -> str:
        """Return the caption, empty if the image has none.

        Raises:
            DatasetError: the caption file is not UTF-8.
        """
        if self.captions is not None:
            return self.captions[index].as_py()
        member = NONE if self.caption_members is None else int(self.caption_members[index])
        if member == NONE:
            return ""
        try:
            return self.files.read(member).decode("utf-8-sig").strip()  # Windows adds the mark
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.files.where(member)}: is not UTF-8 ({error}); save it as UTF-8") from error

    def take(self, indices: np.ndarray) -> SplitIndex:
        """Return some of the samples, in the order of ``indices``."""
        return replace(
            self,
            members=self.members[indices],
            names=self.names.take(pa.array(indices)),
            labels=self.labels[indices],
            captions=None if self.captions is None else self.captions.take(pa.array(indices)),
            caption_members=None if self.caption_members is None else self.caption_members[indices],
        )


def check_unique(names: Sequence[str], root: str) -> None:
    """Raise ``DatasetError`` if two images have the same official name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DatasetError(f"{root}: two images are named {name}; remove one of them")
        seen.add(name)
