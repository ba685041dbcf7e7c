# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards: keys, labels and captions."""

import pytest

from dcae.benchmark.entries import (
    WebDatasetEntry,
)
from dcae.data.layouts.index import index_split
from dcae.data.storage.files import DatasetError
from tests.data import replicas


def names(entry, split):
    return index_split(entry, split).names.to_pylist()


def webdataset(path, classes=3):
    return WebDatasetEntry(kind="webdataset", name="shards", path=str(path), classes=classes)


def test_samples_of_shards_have_labels_and_captions(tmp_path):
    replicas.write(tmp_path / "train-000001.tar", replicas.shard(range(3)))  # keys may come again in other shards
    replicas.write(tmp_path / "train-000000.tar", replicas.shard(range(4)))
    replicas.write(tmp_path / "validation-000000.tar", replicas.shard(range(9, 10)))
    found = index_split(webdataset(tmp_path), "train")
    keys = [("train-000000.tar", k) for k in range(4)] + [("train-000001.tar", k) for k in range(3)]
    assert found.names.to_pylist() == [f"{name}/{k:06}" for name, k in keys]
    assert found.labels.tolist() == [k % 3 for _, k in keys]
    assert [found.caption(i) for i in range(7)] == [f"caption of {k:06}" if k % 2 else "" for _, k in keys]
    assert [found.read(i) for i in range(7)] == [replicas.encoded(f"{k:06}") for _, k in keys]
    assert names(webdataset(tmp_path), "validation") == ["validation-000000.tar/000009"]
    assert set(index_split(webdataset(tmp_path, classes=1), "train").labels.tolist()) == {0}


def test_captions_of_shards_as_other_systems_write_them(tmp_path):
    image = replicas.encoded("a")
    members = {"a.jpg": image, "a.TXT": "\ufeffa red car".encode(), "cafe\u0301.jpg": image, "caf\u00e9.txt": b"a cup"}
    replicas.write(tmp_path / "train-0.tar", replicas.tar(members))
    found = index_split(webdataset(tmp_path, classes=1), "train")
    assert [found.caption(index) for index in range(2)] == ["a red car", "a cup"]


def test_labels_of_shards_out_of_range_or_missing_are_refused(tmp_path):
    replicas.write(tmp_path / "train-0.tar", replicas.shard(range(4), classes=4))
    with pytest.raises(DatasetError, match=r"member 000003\.jpg: label 3 is out of range, 3 classes go from 0 to 2"):
        index_split(webdataset(tmp_path), "train")
    replicas.write(tmp_path / "train-0.tar", replicas.tar({"a.jpg": replicas.encoded("a"), "a.cls": b"cat"}))
    with pytest.raises(DatasetError, match=r"member a\.cls: 'cat' is no label"):
        index_split(webdataset(tmp_path), "train")
    replicas.write(tmp_path / "train-0.tar", replicas.tar({"a.jpg": replicas.encoded("a")}))
    with pytest.raises(DatasetError, match=r"member a\.jpg: the entry says 3 classes, .* no \.cls"):
        index_split(webdataset(tmp_path), "train")


def test_two_images_of_one_key_are_refused(tmp_path):
    replicas.write(tmp_path / "train-0.tar", replicas.tar({"a.jpg": b"1", "a.png": b"2"}))
    with pytest.raises(DatasetError, match=r"a\.png: a second image with the same key"):
        index_split(webdataset(tmp_path, 1), "train")


def test_missing_shards(tmp_path):
    with pytest.raises(DatasetError, match=r"train-\*\.tar: no such shards"):
        index_split(webdataset(tmp_path), "train")
