# SPDX-License-Identifier: Apache-2.0
"""MJHQ-30K: categories, prompts, and images held out."""

import json

import numpy as np
import pytest

from dcae.benchmark.entries import (
    MJHQEntry,
)
from dcae.data.layouts.index import index_split
from dcae.data.storage.files import DatasetError
from tests.data import replicas


def names(entry, split):
    return index_split(entry, split).names.to_pylist()


def disjoint(entry):
    train, validation = (set(names(entry, split)) for split in ("train", "validation"))
    assert train and validation
    return not train & validation


def mjhq(path, **fields):
    return MJHQEntry(kind="mjhq-30k", name="mjhq-30k", path=str(path), **{"validation_per_category": 1, **fields})


def test_categories_of_mjhq_are_classes_and_prompts_are_captions(tmp_path):
    found = index_split(mjhq(replicas.mjhq(tmp_path), validation_per_category="all"), "validation")
    assert found.classes == list(replicas.MJHQ)
    assert found.names[0].as_py() == "animals/07bc5cc1e0ad4b5a.jpg"
    for index, name in enumerate(found.names.to_pylist()):
        category, identity = name.removesuffix(".jpg").split("/")
        assert found.classes[found.labels[index]] == category
        assert found.caption(index) == f"prompt of {identity}"
        assert found.read(index) == replicas.encoded(identity)


def test_as_many_of_each_category_of_mjhq_are_held_out(tmp_path):
    replicas.mjhq(tmp_path)
    for count in (1, 2):
        entry = mjhq(tmp_path, validation_per_category=count)
        held_out = index_split(entry, "validation")
        assert np.bincount(held_out.labels).tolist() == [count] * 3
        assert len(index_split(entry, "train")) == 12 - 3 * count
        assert disjoint(entry)
    # Which ones is fixed for good: of its category, each has the least sha256 of its id.
    assert names(mjhq(tmp_path), "validation") == ["animals/1f3a.jpg", "art/5e77.jpg", "vehicles/1c1c.jpg"]


def test_mjhq_is_the_same_as_a_folder_and_in_a_wrapper(tmp_path):
    reference = index_split(mjhq(replicas.mjhq(tmp_path / "zip")), "train")
    for place in ("mjhq30k_imgs", "imgs", "wrapped"):
        root = tmp_path / place
        if place == "wrapped":
            replicas.zipped(root / "mjhq30k_imgs.zip", replicas.mjhq_images("mjhq30k_imgs/"))
        else:
            for name, data in replicas.mjhq_images().items():
                replicas.write(root / place / name, data)
        replicas.write(root / "meta_data.json", json.dumps(replicas.mjhq_metadata()))
        found = index_split(mjhq(root), "train")
        assert found.names.equals(reference.names) and found.captions.equals(reference.captions)


def test_all_of_mjhq_for_evaluation_leaves_nothing_to_train_on(tmp_path):
    with pytest.raises(DatasetError, match=r"mjhq-30k has no training images.*validation_per_category"):
        index_split(mjhq(replicas.mjhq(tmp_path), validation_per_category="all"), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda known: known.pop("4d66"), r"4d66\.jpg: .*meta_data\.json knows no such image"),
        (lambda known: known["4d66"].update(category="food"), r"4d66\.jpg: .* says its category is food"),
        (lambda known: known.update({"x": 1}), r"meta_data\.json: is not MJHQ-30K's metadata"),
    ],
)
def test_metadata_of_mjhq_that_does_not_fit(tmp_path, change, message):
    known = replicas.mjhq_metadata()
    change(known)
    replicas.mjhq(tmp_path)
    replicas.write(tmp_path / "meta_data.json", json.dumps(known))
    with pytest.raises(DatasetError, match=message):
        index_split(mjhq(tmp_path, validation_per_category="all"), "validation")


def test_missing_files_of_mjhq(tmp_path):
    with pytest.raises(DatasetError, match=r"no images there; expected one of mjhq30k_imgs\.zip"):
        index_split(mjhq(tmp_path), "train")
    replicas.mjhq(tmp_path)
    (tmp_path / "meta_data.json").unlink()
    with pytest.raises(DatasetError, match=r"meta_data\.json: missing, needed for prompts"):
        index_split(mjhq(tmp_path), "train")
