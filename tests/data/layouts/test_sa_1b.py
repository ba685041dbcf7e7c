# SPDX-License-Identifier: Apache-2.0
"""SA-1B: read from its tar files, split by id."""

import pytest

from dcae.benchmark.entries import (
    SA1BEntry,
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


def sa_1b(path, every=10):
    return SA1BEntry(kind="sa-1b", name="sa-1b", path=str(path), validation_every=every)


def test_sa_1b_is_read_from_its_tars_by_id(tmp_path):
    for number, ids in enumerate([range(8, 13), range(95, 103)]):
        replicas.write(tmp_path / f"sa_{number:06}.tar", replicas.sa_1b_tar(ids))
    entry = sa_1b(tmp_path)
    assert names(entry, "validation") == ["sa_10.jpg", "sa_100.jpg"]
    train = [each for each in (*range(8, 13), *range(95, 103)) if each % 10]
    assert names(entry, "train") == [f"sa_{each}.jpg" for each in train]
    found = index_split(entry, "train")
    assert [found.read(k) for k in range(len(found))] == [replicas.encoded(str(each)) for each in train]


def test_the_split_of_sa_1b_does_not_depend_on_which_tars_are_there(tmp_path):
    replicas.write(tmp_path / "sa_000001.tar", replicas.sa_1b_tar(range(95, 103)))
    before = names(sa_1b(tmp_path), "validation")
    replicas.write(tmp_path / "sa_000000.tar", replicas.sa_1b_tar(range(8, 13)))
    assert set(before) < set(names(sa_1b(tmp_path), "validation"))
    assert disjoint(sa_1b(tmp_path))


def test_an_image_of_sa_1b_in_two_tars_is_refused(tmp_path):
    replicas.write(tmp_path / "sa_000000.tar", replicas.sa_1b_tar(range(8, 13)))
    replicas.write(tmp_path / "sa_000000-copy.tar", replicas.sa_1b_tar(range(12, 15)))
    with pytest.raises(DatasetError, match=r"sa_12\.jpg and .*sa_12\.jpg are the same image; remove one"):
        index_split(sa_1b(tmp_path), "train")


def test_missing_sa_1b(tmp_path):
    with pytest.raises(DatasetError, match=rf"{tmp_path}: no SA-1B there; expected sa_000000\.tar"):
        index_split(sa_1b(tmp_path), "train")
