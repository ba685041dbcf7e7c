# SPDX-License-Identifier: Apache-2.0
"""Files by number, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.data.errors import DatasetError

IMAGE_ENDINGS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Formats that are not read here (``dcae.data.decoding``); such files are refused by name, not passed over in silence.
OTHER_IMAGE_ENDINGS = (".avif", ".heic", ".heif", ".jp2", ".jxl")


class Files:
    """Files below one root, by number; any process may read any of them in any order.

    Names are held by arrow, not as a list: worker processes share such memory, while reading objects of Python copies
    it page by page.

    Attributes:
        root: what holds the files, for errors.
        place: the same as an absolute path without links, for what is remembered of them.
        names: relative to the root, parts separated by "/", in the order of ``order``.
        sizes: bytes of each file, int64 [N].
        state: changes if any file may have changed.
    """

    root: str
    place: str
    names: pa.StringArray
    sizes: np.ndarray
    state: str

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return self.names[number].as_py()

    def where(self, number: int) -> str:
        """What an error calls a file."""
        raise NotImplementedError

    def read(self, number: int) -> bytes:
        """Content of a file.

        Raises:
            DatasetError: it is gone or damaged.
        """
        raise NotImplementedError

    def beginning(self, number: int, length: int) -> bytes:
        """At most so many bytes of a file's content, from its start; damage need not be found.

        Raises:
            DatasetError: it is gone.
        """
        raise NotImplementedError


def order(name: str) -> tuple[str, str, str]:
    """Files are sorted by this key: by class (first folder), then by folder, then by name, as torchvision does."""
    first, separator, _ = name.partition("/")
    parent, _, last = name.rpartition("/")
    return (first if separator else "", parent, last)


def are_images(names: pa.StringArray) -> pa.BooleanArray:
    """Which names end as those of images do, of formats that are read here or not."""
    endings = "|".join(ending[1:] for ending in (*IMAGE_ENDINGS, *OTHER_IMAGE_ENDINGS))
    return pc.match_substring_regex(names, rf"\.({endings})$", ignore_case=True)


def check_utf8(name: str, root: str) -> None:
    """Raise ``DatasetError`` for the name of a file that is not UTF-8, as which it could not be kept."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{root}: the name {os.fsencode(name)!r} is not UTF-8; rename it") from None


def state_of(names: pa.StringArray, numbers: np.ndarray, *more: str) -> str:
    """Sha256 of names, a number for each (such as the size), and what else tells that a file may have changed."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(names)], pa.int32()), names)
    digest = hashlib.sha256(pc.binary_join(whole, "\n")[0].as_buffer())  # ten million names as objects take minutes
    digest.update(json.dumps(more).encode())
    digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()
