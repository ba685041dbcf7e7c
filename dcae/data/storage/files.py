# SPDX-License-Identifier: Apache-2.0
"""Files by number, in folders or archives. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IMAGE_ENDINGS = (
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
RAW_ENDINGS = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")
# Unsupported formats (``dcae.data.decoding``); such files raise an error instead of being skipped silently.
OTHER_IMAGE_ENDINGS = (
    ".avif", ".exr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".psd", ".svg", ".tga", *RAW_ENDINGS,
)  # fmt: skip


# Files and folders that systems, file managers and network storage leave behind, in folders and in archives.
NEVER_DATA = re.compile(
    r"\..*|@eaDir|__MACOSX|#recycle|#snapshot|lost\+found|\$RECYCLE\.BIN|System Volume Information|Thumbs\.db|"
    r"desktop\.ini",
    re.IGNORECASE,
)


class DatasetError(ValueError):
    """Images are missing or cannot be read; the message names the file or folder and says what to do."""


class Files:
    """Files below one root, by number; any process may read any of them in any order.

    Names are an arrow array, not a list: worker processes share its memory, while reference counts of Python objects
    would copy it page by page.

    Attributes:
        root: folder or archive of the files, for errors.
        place: its resolved absolute path, as cache key.
        names: relative to the root, separated by "/", sorted by ``order``.
        sizes: file sizes in bytes, int64 [N].
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
        """Return the name of a file for errors."""
        raise NotImplementedError

    def read(self, number: int) -> bytes:
        """Return the content of a file.

        Raises:
            DatasetError: it is missing or damaged.
        """
        raise NotImplementedError

    def beginning(self, number: int, length: int) -> bytes:
        """Return at most the first ``length`` bytes of a file; damage may go unnoticed.

        Raises:
            DatasetError: it is missing.
        """
        raise NotImplementedError


def expanded(path: Path | str) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        DatasetError: it cannot be a path: no such user, or a name that is too long.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        name = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}…"
        raise DatasetError(f"{name}: cannot be used ({error}); correct `path` in the entry") from error
    return found


def order(name: str) -> tuple[str, str, str]:
    """Return the sort key of a file: class (first folder), then folder, then name, as torchvision sorts."""
    first, separator, _ = name.partition("/")
    parent, _, last = name.rpartition("/")
    return (first if separator else "", parent, last)


def are_images(names: pa.StringArray) -> pa.BooleanArray:
    """Return which names have an image ending, of supported formats or not."""
    endings = "|".join(ending[1:] for ending in (*IMAGE_ENDINGS, *OTHER_IMAGE_ENDINGS))
    return pc.match_substring_regex(names, rf"\.({endings})$", ignore_case=True)


def is_data(name: str) -> bool:
    """Return whether a file or folder of this name, without its path, may belong to a dataset."""
    return not NEVER_DATA.fullmatch(name)


def check_utf8(name: str, root: str) -> None:
    """Raise ``DatasetError`` if a file name is not UTF-8, as arrow arrays are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{root}: the name {os.fsencode(name)!r} is not UTF-8; rename it") from None


def state_of(names: pa.StringArray, numbers: np.ndarray, *more: str) -> str:
    """Return the sha256 of names, a number for each (such as its size), and further strings that tell of a change."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(names)], pa.int32()), names)
    digest = hashlib.sha256(
        pc.binary_join(whole, "\n")[0].as_buffer()
    )  # as Python objects, ten million names take minutes
    digest.update(json.dumps(more).encode())
    digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()
