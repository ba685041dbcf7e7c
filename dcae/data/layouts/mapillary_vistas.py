# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas, versions 1.2 and 2.0: ``training/images/*.jpg`` and ``validation/images/*.jpg``.

The two versions have the same images in the same place, and differ in their annotations, which are not read here. The
5,000 images of ``testing`` are not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dcae.benchmark.entries import MapillaryVistasEntry
from dcae.data.layouts.any_folder import select_folder
from dcae.data.selection import Selection

FOLDERS = {"train": "training", "validation": "validation"}


def select_mapillary_vistas(
    entry: MapillaryVistasEntry, split: Literal["train", "validation"], refresh: bool = False
) -> Selection:
    """The images of a split; ``path`` may be the zip file.

    Raises:
        DatasetError: images are missing.
    """
    return select_folder(Path(entry.path).expanduser() / FOLDERS[split] / "images", refresh)
