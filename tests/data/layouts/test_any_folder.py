# SPDX-License-Identifier: Apache-2.0
"""A zip file of a folder is read as the folder."""

import zipfile

import pytest

from dcae.benchmark.entries import FolderEntry, MapillaryVistasEntry
from dcae.data.layouts.index import index_split
from dcae.data.loading import open_dataset
from dcae.data.storage.files import DatasetError
from tests.data import replicas

SPLITS = ("train", "validation")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_file_of_a_folder_is_that_folder(tmp_path, method):
    members = {f"{split}/{k}/{name}.png": replicas.encoded(name, kind="PNG")
               for split in SPLITS for k in ("cat", "dog") for name in "ba"}  # fmt: skip
    members |= {"train/cat/a.txt": "Fuß".encode(), "train/cat/.hidden.png": b"", "__MACOSX/train/cat/._a.png": b""}
    path = replicas.zipped(tmp_path / "mine.zip", members, method)
    for name, data in members.items():
        replicas.write(tmp_path / "mine" / name, data)
    zipped, folder = (
        open_dataset(FolderEntry(kind="folder", name="mine", path=str(each)), "train", 8)
        for each in (path, tmp_path / "mine")
    )
    assert zipped.fingerprint == folder.fingerprint
    assert [each.samples.names.to_pylist() for each in (zipped, folder)] == 2 * [
        ["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"]
    ]
    assert zipped.classes == folder.classes == ["cat", "dog"]
    assert zipped[0].caption == folder[0].caption == "Fuß"
    assert (zipped.batch(range(4)) == folder.batch(range(4))).all()


def test_a_zip_file_without_the_folder_asked_for(tmp_path):
    path = replicas.zipped(tmp_path / "mine.zip", {"train/a.png": replicas.encoded("a", kind="PNG")})
    with pytest.raises(DatasetError, match=r"mine\.zip/validation: no images in it"):
        index_split(FolderEntry(kind="folder", name="mine", path=str(path)), "validation")


LEFT_BEHIND = ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/a.png", "__MACOSX/cat/._a.png", "cat/Thumbs.db",
               "cat/.ipynb_checkpoints/a.png", "#recycle/a.png", "cat/._a.png", "cat/.DS_Store")  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path, form):
    members = {f"train/{k}/a.png": replicas.encoded(k, kind="PNG") for k in ("cat", "dog")}
    members |= {f"train/{name}": replicas.encoded("left", kind="PNG") for name in LEFT_BEHIND}
    path = replicas.zipped(tmp_path / "mine.zip", members)
    if form == "folder":
        path = tmp_path / "mine"
        for name, data in members.items():
            replicas.write(path / name, data)
    found = index_split(FolderEntry(kind="folder", name="mine", path=str(path)), "train")
    assert (found.classes, found.names.to_pylist()) == (["cat", "dog"], ["cat/a.png", "dog/a.png"])


def test_captions_as_other_systems_write_them(tmp_path):
    texts = {"a.txt": "\ufeffa red car\r\n", "b.TXT": "a blue car", "caf\u00e9.txt": "a cup"}
    for name, text in texts.items():
        replicas.write(tmp_path / "train" / name, text.encode())
    for name in ("a", "b", "cafe\u0301"):
        replicas.write(tmp_path / "train" / f"{name}.png", replicas.encoded("a", kind="PNG"))
    found = index_split(FolderEntry(kind="folder", name="mine", path=str(tmp_path)), "train")
    assert [found.caption(index) for index in range(3)] == ["a red car", "a blue car", "a cup"]


def test_a_caption_that_is_no_text_is_named(tmp_path):
    replicas.write(tmp_path / "train" / "a.png", replicas.encoded("a", kind="PNG"))
    replicas.write(tmp_path / "train" / "a.txt", b"\xff\xfe")
    found = index_split(FolderEntry(kind="folder", name="mine", path=str(tmp_path)), "train")
    with pytest.raises(DatasetError, match=r"a\.txt: is not UTF-8"):
        found.caption(0)


# --- Mapillary Vistas ---


@pytest.mark.parametrize("version", ["1.2", "2.0"])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_mapillary_vistas_in_both_versions_and_forms(tmp_path, version, form):
    members = replicas.mapillary_vistas(version)
    path = replicas.zipped(tmp_path / "mapillary.zip", members)
    if form == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "mapillary")
        path = tmp_path / "mapillary"
    entry = MapillaryVistasEntry(kind="mapillary-vistas", name="mapillary-vistas", path=str(path))
    assert index_split(entry, "train").names.to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert index_split(entry, "validation").names.to_pylist() == ["d.jpg", "e.jpg"]
    assert index_split(entry, "validation").read(1) == replicas.encoded("e")
