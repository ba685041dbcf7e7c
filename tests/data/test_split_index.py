# SPDX-License-Identifier: Apache-2.0
"""A split index keeps the data of an image together, and refuses labels out of range."""

import numpy as np
import pyarrow as pa
import pytest

from dcae.data.split_index import NONE, SplitIndex, check_unique
from dcae.data.storage.files import DatasetError
from dcae.data.storage.folders import FolderFiles
from tests.data import replicas


@pytest.fixture
def files(tmp_path):
    for name in ("a.jpg", "a.txt", "b.jpg", "c.jpg"):
        replicas.write(tmp_path / name, name)
    return FolderFiles(tmp_path)


def index_split(files, labels=(0, 1, 1), **more):
    members = np.array([0, 2, 3])
    return SplitIndex(files, members, files.names.take(pa.array(members)), np.array(labels), ["x", "y"], **more)


def test_taking_some_images_takes_all_that_is_known_of_them(files):
    whole = index_split(files, caption_members=np.array([1, NONE, NONE]))
    part = whole.take(np.array([2, 0]))
    assert part.names.to_pylist() == ["c.jpg", "a.jpg"]
    assert [part.read(k) for k in range(2)] == [b"c.jpg", b"a.jpg"]
    assert part.labels.tolist() == [1, 0] and part.classes == ["x", "y"]
    assert [part.caption(k) for k in range(2)] == ["", "a.txt"]
    said = index_split(files, captions=pa.array(["one", "two", "three"])).take(np.array([1]))
    assert said.caption(0) == "two" and said.sizes.tolist() == [5]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_out_of_range_is_refused_with_its_file(files, label):
    with pytest.raises(DatasetError, match=rf"b\.jpg: label {label} is out of range, 2 classes go from 0 to 1"):
        index_split(files, labels=(0, label, 1))


def test_no_images_are_an_error(files):
    with pytest.raises(DatasetError, match="no images in it for this split"):
        index_split(files).take(np.array([], np.int64))


def test_names_that_stand_twice_are_found():
    check_unique(["a", "b"], "root")
    with pytest.raises(DatasetError, match="root: two images are named a"):
        check_unique(["a", "b", "a"], "root")
