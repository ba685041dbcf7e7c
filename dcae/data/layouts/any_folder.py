# SPDX-License-Identifier: Apache-2.0
"""Any folder of images or zip file of one, with or without class sub-folders; and Mapillary Vistas, which is one."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcae.benchmark.entries import MapillaryVistasEntry
from dcae.data.split_index import NONE, Split, SplitIndex
from dcae.data.storage.archives import open_files
from dcae.data.storage.files import IMAGE_ENDINGS, DatasetError, Files, are_images, expanded

MAPILLARY_FOLDERS = {"train": "training", "validation": "validation"}


def index_folder(folder: Path | str, refresh: bool = False) -> SplitIndex:
    """Index all images below a folder, in the order of torchvision's ``ImageFolder``.

    Sub-folders are classes. The caption of ``a/b.jpg`` is the text in ``a/b.txt``.

    Args:
        folder: may be a zip file or a folder in one.
        refresh: list the files again.

    Raises:
        DatasetError: the folder is missing or has no images, a class is empty, or images are next to class folders.
    """
    folder = Path(folder)
    files = open_files(folder, refresh)
    members = np.flatnonzero(are_images(files.names))
    names = files.names.take(pa.array(members))
    parts = pc.split_pattern(names, "/", max_splits=1)
    in_classes = pc.greater(pc.list_value_length(parts), 1).to_numpy(zero_copy_only=False)
    # Known for real folders only; zip files need not list empty folders.
    empty = [name for name in getattr(files, "folders", []) if name and "/" not in name]
    if not len(members) and not empty:
        raise DatasetError(f"{folder.absolute()}: no images in it; expected files ending in {', '.join(IMAGE_ENDINGS)}")
    if not in_classes.any() and not empty:
        return SplitIndex(
            files, members, names, np.zeros(len(members), np.int64), [folder.name or folder.absolute().name],
            caption_members=caption_members(files, members),
        )  # fmt: skip
    if not in_classes.all():
        loose = names[int(np.flatnonzero(~in_classes)[0])].as_py()
        raise DatasetError(
            f"{folder.absolute() / loose}: is next to sub-folders, which are classes; move it into one of them"
        )
    classes = pc.list_element(parts, 0).dictionary_encode()  # files are sorted by class
    labels = classes.indices.to_numpy().astype(np.int64)
    known = classes.dictionary.to_pylist()
    if without := sorted(set(empty) - set(known)):
        raise DatasetError(f"{folder.absolute() / without[0]}: a class without images; fill the folder or remove it")
    return SplitIndex(files, members, names, labels, known, caption_members=caption_members(files, members))


def index_mapillary_vistas(entry: MapillaryVistasEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index ``training/images/*.jpg`` or ``validation/images/*.jpg`` of Mapillary Vistas; ``path`` may be the zip file.

    Versions 1.2 and 2.0 have the same images at the same paths and differ in their annotations only, which are not
    read. The 5,000 images of ``testing`` are not used.

    Raises:
        DatasetError: images are missing.
    """
    return index_folder(expanded(entry.path) / MAPILLARY_FOLDERS[split] / "images", refresh)


def caption_members(files: Files, members: np.ndarray) -> np.ndarray | None:
    """Return the number of each image's caption file or ``NONE``, int64 [N]; ``None`` if no image has a caption."""
    texts = np.flatnonzero(pc.match_substring_regex(files.names, r"\.txt$", ignore_case=True))
    if not len(texts):
        return None
    numbers = {_stem(files.name(number)): number for number in texts.tolist()}
    return np.array([numbers.get(_stem(files.name(number)), NONE) for number in members.tolist()], np.int64)


def _stem(name: str) -> str:
    """Return a name without its ending; letters with accents count as one, as not all systems store them."""
    return unicodedata.normalize("NFC", name.rpartition(".")[0])
