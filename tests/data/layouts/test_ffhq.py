# SPDX-License-Identifier: Apache-2.0
"""FFHQ: the official split, from its metadata and without."""

import json

import pytest

from dcae.benchmark.entries import (
    FFHQEntry,
)
from dcae.data.layouts.index import index_split
from dcae.data.loading import open_dataset
from dcae.data.storage.files import DatasetError
from tests.data import replicas

SPLITS = ("train", "validation")


def names(entry, split):
    return index_split(entry, split).names.to_pylist()


def ffhq(path):
    return FFHQEntry(kind="ffhq", name="ffhq", path=str(path))


@pytest.mark.parametrize("metadata", [True, False])
def test_ffhq_has_its_official_split(tmp_path, metadata):
    entry = ffhq(replicas.ffhq(tmp_path, metadata))
    train = ["00000/00000.png", "00000/00001.png", "00000/00999.png", "01000/01000.png", "59000/59999.png"]
    assert names(entry, "train") == train
    assert names(entry, "validation") == ["60000/60000.png", "69000/69999.png"]
    assert index_split(entry, "train").read(0) == replicas.encoded("0", (32, 32), "PNG")


def test_the_categories_of_ffhqs_metadata_decide_and_follow_the_file(tmp_path):
    entry = ffhq(replicas.ffhq(tmp_path, validation=(1, 60_000)))
    assert names(entry, "validation") == ["00000/00001.png", "60000/60000.png"]
    replicas.write(tmp_path / "ffhq-dataset-v2.json", json.dumps(replicas.ffhq_metadata((999,))))
    assert names(entry, "validation") == ["00000/00999.png"]


@pytest.mark.parametrize("prefix", ["", "images1024x1024/"])
def test_ffhqs_zip_file_holds_the_same(tmp_path, prefix):
    members = {f"{prefix}{name}": data for name, data in replicas.ffhq_images().items()}
    replicas.zipped(tmp_path / "zip" / "images1024x1024.zip", members)
    folder = replicas.ffhq(tmp_path / "folder", metadata=False)
    for split in SPLITS:
        one, other = (open_dataset(ffhq(path), split, 16) for path in (tmp_path / "zip", folder))
        assert one.fingerprint == other.fingerprint


def test_ffhq_images_that_stand_twice_or_in_no_category(tmp_path):
    replicas.ffhq(tmp_path)
    extra = replicas.write(tmp_path / "images1024x1024" / "00000" / "00002.png", replicas.encoded("2"))
    with pytest.raises(DatasetError, match="image 00002 is neither for training nor for validation"):
        names(ffhq(tmp_path), "train")
    extra.unlink()
    replicas.write(tmp_path / "images1024x1024" / "copy" / "00001.png", replicas.encoded("1"))
    with pytest.raises(DatasetError, match=r"two images are named 00001\.png"):
        names(ffhq(tmp_path), "train")


def test_damaged_metadata_of_ffhq_is_named(tmp_path):
    replicas.ffhq(tmp_path)
    replicas.write(tmp_path / "ffhq-dataset-v2.json", '{"0": {"category":')
    with pytest.raises(DatasetError, match=r"ffhq-dataset-v2\.json: is not FFHQ's metadata"):
        names(ffhq(tmp_path), "train")
