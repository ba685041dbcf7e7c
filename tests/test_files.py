# SPDX-License-Identifier: Apache-2.0
"""Atomic writes and content hashes of files."""

import os
import stat
import subprocess

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dcae.files import DiskFull, content_hashes, replacing, sha256


def test_a_file_takes_its_place_when_it_is_complete(tmp_path):
    path = tmp_path / "new folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent and not path.exists()
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_machines_write_beside_each_other(tmp_path, monkeypatch):
    """Process numbers alone would be the same in two containers."""
    with replacing(tmp_path / "file") as here:
        nodename = type("Names", (), {"nodename": "another"})()
        monkeypatch.setattr(os, "uname", lambda: nodename)
        with replacing(tmp_path / "file") as there:
            assert here != there
            there.write_text("there")
        here.write_text("here")
    assert (tmp_path / "file").read_text() == "here"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_decides_who_reads_weights(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "weights.safetensors") as temporary:
            save_file({"a": np.zeros(1)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights.safetensors").stat().st_mode) == mode


@pytest.mark.parametrize("save", ["write", "safetensors"])
def test_a_full_disk_is_named(tmp_path, save):
    path = tmp_path / "file"
    with pytest.raises(DiskFull, match=rf"{tmp_path}: no space left to write file"), replacing(path) as temporary:
        if save == "write":
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x")
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_nothing_of_the_living(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    node = os.uname().nodename
    living = [f".b.{node}.{os.getpid()}", f".a.elsewhere.{ended.pid}", f"a.{node}.{ended.pid}"]
    for name in (f".a.{node}.{ended.pid}", *living):
        (tmp_path / name).touch()
    with replacing(tmp_path / "c") as temporary:
        temporary.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*living, "c"])


def test_hashes_follow_the_content_of_files_and_of_folders(tmp_path):
    for name in ("a.safetensors", "config.json", "notes.txt"):
        (tmp_path / name).write_text(name)
    found = content_hashes([tmp_path, tmp_path / "notes.txt"])
    assert found == {
        str(tmp_path / name): sha256(tmp_path / name) for name in ("a.safetensors", "config.json", "notes.txt")
    }
    assert content_hashes([tmp_path / "a.safetensors"]) == {
        str(tmp_path / "a.safetensors"): sha256(tmp_path / "a.safetensors")
    }
    (tmp_path / "notes.txt").write_text("other")
    assert content_hashes([tmp_path / "notes.txt"]) != {str(tmp_path / "notes.txt"): found[str(tmp_path / "notes.txt")]}
