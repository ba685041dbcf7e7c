# SPDX-License-Identifier: Apache-2.0
"""Widths and heights of a data set's images, read once from their headers and kept."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from dcae.data.decoding import Header, read_header
from dcae.data.errors import DatasetError
from dcae.data.selection import Selection
from dcae.data.storage import cache
from dcae.data.storage.files import state_of
from dcae.data.workers import in_processes

BEGINNING = 2**16  # bytes of a file that nearly always hold its header
BLOCK = 1000  # images that a process takes at a time
FEW = 5 * BLOCK  # images for which processes of their own do not pay


def image_sizes(selection: Selection, processes: int = 1) -> np.ndarray:
    """Width and height of every image in pixels, int64 [N, 2].

    Args:
        selection: of image files; those of a million are read once, and then remembered.
        processes: how many read, the first time.

    Raises:
        DatasetError: a file is no image.
    """
    table = cache.cached(*_key_and_state(selection), lambda: _table(_read_sizes(selection, processes)))
    return np.stack([table[side].to_numpy() for side in ("width", "height")], axis=1)


def remember_sizes(selection: Selection, sizes: np.ndarray) -> None:
    """Keep the sizes [N, 2] of images that were read for another reason."""
    cache.store(*_key_and_state(selection), _table(sizes))


def _key_and_state(selection: Selection) -> tuple[str, str]:
    names = selection.names
    key = f"image sizes of {selection.files.place}: {len(selection)} from {names[0]} to {names[-1]}"
    return key, state_of(names, selection.members, selection.files.state)


def _table(sizes: np.ndarray) -> pa.Table:
    return pa.table({"width": sizes[:, 0], "height": sizes[:, 1]})


def _read_sizes(selection: Selection, processes: int) -> np.ndarray:
    blocks = [range(start, min(start + BLOCK, len(selection))) for start in range(0, len(selection), BLOCK)]
    if len(selection) <= FEW:
        processes = 1
    else:
        print(
            f"{selection.files.root}: reading the sizes of {len(selection):,} images, once", file=sys.stderr, flush=True
        )
    return np.concatenate(list(in_processes(_sizes_of, selection, blocks, processes)))


def _sizes_of(selection: Selection, indices: range) -> np.ndarray:
    headers = [_header_of(selection, index) for index in indices]
    return np.array([(header.width, header.height) for header in headers], np.int64)


def _header_of(selection: Selection, index: int) -> Header:
    member, where = int(selection.members[index]), selection.where(index)
    try:
        return read_header(selection.files.beginning(member, BEGINNING), where)
    except DatasetError:  # a header behind much else, as that of some TIFF files, or really no image
        return read_header(selection.read(index), where)


def smaller(sizes: np.ndarray, resolution: int) -> np.ndarray:
    """Which images a crop at this resolution would enlarge, bool [N]."""
    return sizes.min(axis=1) < resolution


def large_enough(selection: Selection, resolution: int, processes: int = 1) -> np.ndarray:
    """Indices of the images whose short side is at least the resolution, int64 [N].

    Raises:
        DatasetError: there are none.
    """
    kept = np.flatnonzero(~smaller(image_sizes(selection, processes), resolution))
    if not len(kept):
        raise DatasetError(
            f"{selection.files.root}: each of its {len(selection):,} images is smaller than {resolution} px, "
            "and `smaller_images: discard` leaves none; take a lower resolution, or `upsample`"
        )
    return kept
