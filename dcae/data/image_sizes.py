# SPDX-License-Identifier: Apache-2.0
"""Widths and heights of a dataset's images, read once from their headers and cached."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from dcae.data.decoding import Header, read_header
from dcae.data.split_index import SplitIndex
from dcae.data.storage import cache
from dcae.data.storage.files import DatasetError, state_of
from dcae.data.workers import in_processes

BEGINNING = 2**16  # bytes of a file that nearly always contain its header
BLOCK = 1000  # images per task of a worker process
FEW = 5 * BLOCK  # up to so many images, worker processes do not pay


def image_sizes(samples: SplitIndex, processes: int = 1) -> np.ndarray:
    """Return width and height of every image in pixels, int64 [N, 2]; read once, then cached.

    Args:
        samples: of image files.
        processes: number of processes that read the headers.

    Raises:
        DatasetError: a file is not an image.
    """
    table = cache.cached(*_key_and_state(samples), lambda: _table(_read_sizes(samples, processes)))
    return np.stack([table[side].to_numpy() for side in ("width", "height")], axis=1)


def remember_sizes(samples: SplitIndex, sizes: np.ndarray) -> None:
    """Cache the sizes [N, 2] of images that were read for another purpose."""
    cache.store(*_key_and_state(samples), _table(sizes))


def _key_and_state(samples: SplitIndex) -> tuple[str, str]:
    names = samples.names
    key = f"image sizes of {samples.files.place}: {len(samples)} from {names[0]} to {names[-1]}"
    return key, state_of(names, samples.members, samples.files.state)


def _table(sizes: np.ndarray) -> pa.Table:
    return pa.table({"width": sizes[:, 0], "height": sizes[:, 1]})


def _read_sizes(samples: SplitIndex, processes: int) -> np.ndarray:
    blocks = [range(start, min(start + BLOCK, len(samples))) for start in range(0, len(samples), BLOCK)]
    if len(samples) <= FEW:
        processes = 1
    else:
        print(f"{samples.files.root}: reading the sizes of {len(samples):,} images, once", file=sys.stderr, flush=True)
    return np.concatenate(list(in_processes(_sizes_of, samples, blocks, processes)))


def _sizes_of(samples: SplitIndex, indices: range) -> np.ndarray:
    headers = [_header_of(samples, index) for index in indices]
    return np.array([(header.width, header.height) for header in headers], np.int64)


def _header_of(samples: SplitIndex, index: int) -> Header:
    member, where = int(samples.members[index]), samples.where(index)
    try:
        return read_header(samples.files.beginning(member, BEGINNING), where)
    except DatasetError:  # the header is further back, as in some TIFF files, or it is no image
        return read_header(samples.read(index), where)


def smaller(sizes: np.ndarray, resolution: int) -> np.ndarray:
    """Return which images a crop at this resolution would enlarge, bool [N]."""
    return sizes.min(axis=1) < resolution


def large_enough(samples: SplitIndex, resolution: int, processes: int = 1) -> np.ndarray:
    """Return the indices of the images whose short side is at least the resolution, int64 [N].

    Raises:
        DatasetError: there are none.
    """
    kept = np.flatnonzero(~smaller(image_sizes(samples, processes), resolution))
    if not len(kept):
        raise DatasetError(
            f"{samples.files.root}: each of its {len(samples):,} images is smaller than {resolution} px, "
            "and `smaller_images: discard` leaves none; use a lower resolution or `upsample`"
        )
    return kept
