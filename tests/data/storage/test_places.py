# SPDX-License-Identifier: Apache-2.0
"""A path may lead into a zip file as into a folder."""

import pytest

from dcae.data.errors import DatasetError
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.folders import FolderFiles
from dcae.data.storage.places import open_files, read_side_file
from tests.data import replicas


def test_paths_lead_into_zip_files(tmp_path):
    path = replicas.zipped(
        tmp_path / "all.zip", {"x/train/1.jpg": b"1", "x/training/2.jpg": b"2", "x/labels.csv": b"3"}
    )
    assert open_files(path / "x" / "train").names.to_pylist() == ["1.jpg"]
    assert len(open_files(path)) == 3
    assert read_side_file(path / "x" / "labels.csv", "labels") == b"3"
    with pytest.raises(DatasetError, match=r"x/other\.csv: missing, needed for labels"):
        read_side_file(path / "x" / "other.csv", "labels")


def test_a_folder_named_like_a_zip_file_is_a_folder(tmp_path):
    replicas.write(tmp_path / "images.zip" / "a.jpg", b"1")
    assert isinstance(open_files(tmp_path / "images.zip"), FolderFiles)
    replicas.zipped(tmp_path / "file.zip", {"a.jpg": b"1"})
    assert isinstance(open_files(tmp_path / "file.zip"), ArchiveFiles)


def test_a_path_through_a_file_that_is_no_zip_leads_nowhere(tmp_path):
    replicas.write(tmp_path / "file", b"1")
    with pytest.raises(DatasetError, match="file/train: no such folder"):
        open_files(tmp_path / "file" / "train")
