# SPDX-License-Identifier: Apache-2.0
"""Listings of folders: remembered while nothing changed, and never by way of a link out of the folder."""

import os

import pytest

from dcae.data.storage import folders
from dcae.data.storage.files import DatasetError
from dcae.data.storage.folders import FolderFiles
from tests.data import replicas

LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.jpg", "b/1.jpg", "a/deep/3.jpg", "a/4.jpg", ".hidden/5.jpg", "a/.6.jpg", "7.txt"):
        replicas.write(tmp_path / "images" / name, name)
    age(tmp_path / "images")
    return tmp_path / "images"


def age(folder):
    """Folders as they are when a job begins: changed long before."""
    for parent, _, _ in os.walk(folder):
        os.utime(parent, (LONG_AGO, LONG_AGO))


def names(folder, **options):
    return FolderFiles(folder, **options).names.to_pylist()


def test_all_but_hidden_files_are_listed_in_order(folder):
    files = FolderFiles(folder)
    assert files.names.to_pylist() == ["7.txt", "a/4.jpg", "a/deep/3.jpg", "b/1.jpg", "b/2.jpg"]
    assert [files.read(k).decode() for k in range(5)] == files.names.to_pylist()
    assert files.sizes.tolist() == [len(name) for name in files.names.to_pylist()]
    assert files.where(1) == str(folder / "a/4.jpg")


def test_a_listing_is_remembered(folder, monkeypatch):
    first = FolderFiles(folder)
    assert not list(folder.glob("*.arrow")), "nothing is written beside the user's files"
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("listed again"))
    again = FolderFiles(folder)
    assert again.names.equals(first.names) and again.state == first.state


@pytest.mark.parametrize("where", [".", "b", "a/deep"])
def test_a_new_file_anywhere_is_noticed(folder, where):
    names(folder)
    replicas.write(folder / where / "new.jpg", "new")
    assert len(names(folder)) == 6


def test_files_and_folders_that_are_gone_or_renamed_are_noticed(folder):
    names(folder)
    (folder / "a/deep/3.jpg").unlink()
    assert "a/deep/3.jpg" not in names(folder)
    age(folder)
    names(folder)
    (folder / "b").rename(folder / "c")
    assert "c/1.jpg" in names(folder)


def test_a_listing_made_within_a_tick_of_a_change_is_not_remembered(folder):
    replicas.write(folder / "b/3.jpg", "3")
    kept = os.stat(folder / "b").st_mtime_ns
    names(folder)
    replicas.write(folder / "b/4.jpg", "4")
    os.utime(folder / "b", ns=(kept, kept))  # as on a file system whose clock is coarse
    assert "b/4.jpg" in names(folder)


def rewrite(folder, *names):
    """Other content of another size in the same files, which no folder shows."""
    for name in names:
        (folder / name).write_bytes(b"of another size")
    age(folder)


@pytest.mark.parametrize("looked_at", [1024, 2])
def test_files_that_are_all_rewritten_in_place_are_noticed(folder, monkeypatch, looked_at):
    monkeypatch.setattr(folders, "SPOT_CHECKS", looked_at)
    files = names(folder)
    before = FolderFiles(folder).state
    rewrite(folder, *files)
    assert FolderFiles(folder).sizes.tolist() == [15] * 5
    assert FolderFiles(folder).state != before


def test_a_single_file_rewritten_in_place_is_noticed_by_a_refresh(folder, monkeypatch):
    monkeypatch.setattr(folders, "SPOT_CHECKS", 2)  # of five files the first and the fourth
    names(folder)
    rewrite(folder, "b/2.jpg")
    assert FolderFiles(folder).sizes.tolist()[-1] == 7
    assert FolderFiles(folder, refresh=True).sizes.tolist()[-1] == 15
    assert FolderFiles(folder).sizes.tolist()[-1] == 15, "and remembered"


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    secret = replicas.write(tmp_path / "secret.jpg", "secret")
    for target in (secret, tmp_path):
        (folder / "b" / "link.jpg").symlink_to(target)
        with pytest.raises(DatasetError, match=r"b/link\.jpg: a link to .*, outside the dataset's folder"):
            names(folder)
        (folder / "b" / "link.jpg").unlink()


def test_links_within_the_folder(folder):
    (folder / "b" / "link.jpg").symlink_to("../a/4.jpg")
    assert "b/link.jpg" in names(folder)
    (folder / "b" / "again").symlink_to("../a")
    with pytest.raises(DatasetError, match="b/again: a link to another folder of the dataset"):
        names(folder)


def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "b" / "5.png")  # to open it would wait for a writer
    with pytest.raises(DatasetError, match=r"b/5\.png: a pipe, a socket or a device"):
        names(folder)


@pytest.mark.parametrize("target", ["circle", "nowhere"])
def test_links_to_nothing_are_refused(folder, target):
    (folder / "circle").symlink_to(target)
    with pytest.raises(DatasetError, match="circle: a broken link"):
        names(folder)


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert names(tmp_path / "link") == names(folder)


def test_a_name_that_is_not_utf_8_is_refused(folder):
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(DatasetError, match=r"is not UTF-8; rename it"):
        names(folder)


def test_a_file_that_has_gone_or_may_not_be_read_is_named(folder):
    files = FolderFiles(folder)
    (folder / "b/1.jpg").unlink()
    with pytest.raises(DatasetError, match=r"b/1\.jpg: cannot be read"):
        files.read(3)


def test_a_folder_that_may_not_be_listed_is_named(folder, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DatasetError, match=rf"^{folder}: cannot be listed \(.*Permission denied"):
        FolderFiles(folder)
