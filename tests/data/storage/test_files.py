# SPDX-License-Identifier: Apache-2.0
"""A folder, a tar file and a zip file of the same files are the same dataset."""

import os
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import are_images, order, state_of
from dcae.data.storage.folders import FolderFiles
from tests.data import replicas

PLAIN = st.text("aB0-_. é", min_size=1, max_size=4)
PART = PLAIN.filter(lambda part: not part.startswith(".") and part.strip() == part)
TREES = st.dictionaries(st.lists(PART, min_size=1, max_size=3).map(tuple), st.binary(max_size=50), max_size=8)


def no_file_is_a_folder(tree: dict[tuple[str, ...], bytes]) -> bool:
    return not any(path[:k] in tree for path in tree for k in range(1, len(path)))


@settings(max_examples=20, deadline=None)
@given(TREES.filter(no_file_is_a_folder))
def test_a_folder_a_tar_and_a_zip_file_of_it_hold_the_same(tree):
    members = {"/".join(path): data for path, data in tree.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "files").mkdir()
        for name, data in members.items():
            replicas.write(root / "files" / name, data)
        packed = [
            FolderFiles(root / "files"),
            ArchiveFiles([replicas.write(root / "a.tar", replicas.tar(members))]),
            ArchiveFiles([replicas.zipped(root / "a.zip", members)]),
            ArchiveFiles([replicas.zipped(root / "deflated.zip", members, zipfile.ZIP_DEFLATED)]),
        ]
        for files in packed:
            assert files.names.to_pylist() == sorted(members, key=order)
            assert [files.read(k) for k in range(len(files))] == [members[files.name(k)] for k in range(len(files))]
            assert [files.beginning(k, 7) for k in range(len(files))] == [
                members[files.name(k)][:7] for k in range(len(files))
            ]
            assert files.sizes.tolist() == [len(members[files.name(k)]) for k in range(len(files))]


@settings(max_examples=20, deadline=None)
@given(TREES.filter(no_file_is_a_folder))
def test_the_order_is_that_of_walking_each_class_after_the_other(tree):
    names = ["/".join(path) for path in tree if len(path) > 1]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            replicas.write(Path(folder) / name, b"")
        walked = []
        for top in sorted(os.listdir(folder)):  # as torchvision's ImageFolder does
            for parent, _, found in sorted(os.walk(os.path.join(folder, top))):
                walked += [os.path.relpath(os.path.join(parent, name), folder) for name in sorted(found)]
    assert sorted(names, key=order) == walked


def test_images_are_told_by_their_endings():
    names = ["a.jpg", "a.JPEG", "b.jpg.txt", "jpg", "c.PnG", "d.webp", "e.gif", "f.tiff", "g.eps", "h.jpgx", "i.HEIC"]
    found = [name for name, image in zip(names, are_images(pa.array(names)).to_pylist(), strict=True) if image]
    assert found == ["a.jpg", "a.JPEG", "c.PnG", "d.webp", "e.gif", "f.tiff", "i.HEIC"]


def test_the_state_follows_every_name_and_number():
    names, numbers = pa.array(["a", "b/c", "é"]), pa.array([1, 2, 3]).to_numpy()
    states = {
        state_of(names, numbers),
        state_of(pa.array(["a", "b", "é"]), numbers),
        state_of(pa.array(["a", "b/c", "e"]), numbers),
        state_of(names, numbers[::-1]),
        state_of(names, numbers, "more"),
        state_of(names[:2], numbers[:2]),
        state_of(names[:0], numbers[:0]),
    }
    assert len(states) == 7
    part = pa.array(["x", "a", "b/c", "é"])[1:]
    assert state_of(part, numbers) == state_of(names, numbers), "where an array lies in memory does not count"
