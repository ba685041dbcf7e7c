# SPDX-License-Identifier: Apache-2.0
"""Any folder of images, or zip file of one, with or without sub-folders that are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.data.errors import DatasetError
from dcae.data.selection import NONE, Selection
from dcae.data.storage.files import IMAGE_ENDINGS, Files, are_images
from dcae.data.storage.places import open_files


def select_folder(folder: Path | str, refresh: bool = False) -> Selection:
    """All images below a folder, in the order of torchvision's ``ImageFolder``.

    Sub-folders are classes, if there are any. The caption of ``a/b.jpg`` is the text in ``a/b.txt``.

    Args:
        folder: may lead into a zip file.
        refresh: list the files anew.

    Raises:
        DatasetError: the folder is missing or holds no images, or a class is empty, or images lie beside the classes.
    """
    folder = Path(folder)
    files = open_files(folder, refresh)
    members = np.flatnonzero(are_images(files.names))
    names = files.names.take(pa.array(members))
    parts = pc.split_pattern(names, "/", max_splits=1)
    in_classes = pc.greater(pc.list_value_length(parts), 1).to_numpy(zero_copy_only=False)
    # Folders without images are known for real folders only; zip files need not list them.
    empty = [name for name in getattr(files, "folders", []) if name and "/" not in name]
    if not len(members) and not empty:
        raise DatasetError(f"{folder.absolute()}: no images in it; expected files ending in {', '.join(IMAGE_ENDINGS)}")
    if not in_classes.any() and not empty:
        return Selection(
            files, members, names, np.zeros(len(members), np.int64), [folder.name or folder.absolute().name],
            caption_members=caption_members(files, members),
        )  # fmt: skip
    if not in_classes.all():
        loose = names[int(np.flatnonzero(~in_classes)[0])].as_py()
        raise DatasetError(
            f"{folder.absolute() / loose}: lies beside sub-folders, which are classes; move it into one of them"
        )
    classes = pc.list_element(parts, 0).dictionary_encode()  # files are sorted by class
    labels = classes.indices.to_numpy().astype(np.int64)
    known = classes.dictionary.to_pylist()
    if without := sorted(set(empty) - set(known)):
        raise DatasetError(f"{folder.absolute() / without[0]}: a class without images; fill the folder or remove it")
    return Selection(files, members, names, labels, known, caption_members=caption_members(files, members))


def caption_members(files: Files, members: np.ndarray) -> np.ndarray | None:
    """Which file has each image's caption, ``NONE`` for images without; ``None`` if no image has one."""
    texts = np.flatnonzero(pc.ends_with(files.names, ".txt"))
    if not len(texts):
        return None
    numbers = {files.name(number).removesuffix(".txt"): number for number in texts.tolist()}
    stems = (files.name(number).rpartition(".")[0] for number in members.tolist())
    return np.array([numbers.get(stem, NONE) for stem in stems], np.int64)
