# SPDX-License-Identifier: Apache-2.0
"""MJHQ-30K: ``<category>/<id>.jpg`` in ``mjhq30k_imgs.zip`` or its folder, and prompts in ``meta_data.json``.

Categories are classes, in alphabetical order as in ``ImageFolder``, which the authors use; prompts are captions. It was
published without a split.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from dcae.benchmark.entries import MJHQEntry
from dcae.data.layouts.any_folder import index_folder
from dcae.data.split_index import Split, SplitIndex
from dcae.data.storage.archives import read_side_file
from dcae.data.storage.files import DatasetError, expanded

PLACES = ("mjhq30k_imgs.zip", "mjhq30k_imgs", "imgs")
METADATA = "meta_data.json"


def index_mjhq(entry: MJHQEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index the images of a split, by category and id.

    Raises:
        DatasetError: images or metadata are missing, or do not belong together.
    """
    path = expanded(entry.path)
    places = [path / name for name in PLACES if (path / name).exists()]
    if not places:
        raise DatasetError(
            f"{path.absolute()}: no images there; expected one of {', '.join(PLACES)}; put it there, or correct `path`"
        )
    samples = index_folder(_below_wrapper(places[0]), refresh)
    names = samples.names.to_pylist()
    if entry.validation_per_category == "all":
        if split == "train":
            raise DatasetError(
                f"dataset {entry.name} has no training images: its entry makes all of them validation images; "
                "train on an entry whose validation_per_category is a number"
            )
        held_out = np.ones(len(names), bool)
    else:
        held_out = _held_out(names, entry.validation_per_category)
    chosen = samples.take(np.flatnonzero(held_out == (split == "validation")))
    return _with_prompts(chosen, path / METADATA)


def _below_wrapper(place: Path) -> Path:
    """Return the folder of the categories; some copies of the zip file wrap them in a folder of its name."""
    if place.suffix != ".zip":
        return place
    wrapped = place / place.stem
    try:
        index_folder(wrapped)
    except DatasetError:
        return place
    return wrapped


def _held_out(names: list[str], per_category: int) -> np.ndarray:
    """Return which images are for validation, bool [N]: in each category those with the smallest sha256 of their id."""
    by_category: dict[str, list[tuple[str, int]]] = {}
    for index, name in enumerate(names):
        category, _, file = name.partition("/")
        identity = hashlib.sha256(Path(file).stem.encode()).hexdigest()
        by_category.setdefault(category, []).append((identity, index))
    held_out = np.zeros(len(names), bool)
    for members in by_category.values():
        held_out[[index for _, index in sorted(members)[:per_category]]] = True
    return held_out


def _with_prompts(samples: SplitIndex, metadata: Path) -> SplitIndex:
    """Add the prompts as captions."""
    try:
        content = json.loads(read_side_file(metadata, "prompts and categories"))
        known = {identity: (item["category"], item["prompt"]) for identity, item in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{metadata}: is not MJHQ-30K's metadata ({error!r}); download it again") from error
    prompts = []
    for index, name in enumerate(samples.names.to_pylist()):
        category, _, file = name.partition("/")
        known_category, prompt = known.get(Path(file).stem, (None, None))
        if known_category != category:
            problem = "knows no such image" if known_category is None else f"says its category is {known_category}"
            raise DatasetError(f"{samples.where(index)}: {metadata} {problem}; download both again")
        prompts.append(prompt)
    return replace(samples, captions=pa.array(prompts, pa.string()), caption_members=None)
