# SPDX-License-Identifier: Apache-2.0
"""What is remembered of datasets: apart from them, whole, and of no other state."""

import multiprocessing

import pyarrow as pa
import pytest

from dcae.data.storage import cache
from dcae.data.storage.archives import ArchiveFiles
from tests.data import replicas

MEMBERS = {f"{name}.bin": name.encode() * 1000 for name in "cab"}
TABLE = pa.table({"name": ["é", "b"], "size": [1, 2]})


def test_a_table_comes_back_with_its_state():
    assert cache.load("key") is None
    cache.store("key", [1, {"a": 2}], TABLE)
    state, table = cache.load("key")
    assert state == [1, {"a": 2}] and table.equals(TABLE)
    assert cache.load("other key") is None


def test_a_table_of_another_state_is_made_anew():
    made = []

    def make():
        made.append(1)
        return TABLE

    for state in (1, 1, 2, 2, 1):
        assert cache.cached("key", state, make).equals(TABLE)
    assert len(made) == 3


def test_a_table_that_is_in_use_may_be_replaced():
    cache.store("key", 1, TABLE)
    _, old = cache.load("key")
    cache.store("key", 2, pa.table({"name": ["x" * 1000] * 1000}))
    assert old.equals(TABLE)


def _store_and_load(number: int) -> bool:
    table = pa.table({"number": [number] * 10_000})
    for _ in range(10):
        cache.store("key", number, table)
        state, found = cache.load("key")
        if set(found["number"].to_pylist()) != {state}:
            return False
    return True


def test_many_processes_never_see_half_a_table():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert all(pool.map(_store_and_load, range(4)))


def test_a_damaged_cache_is_made_anew(tmp_path, own_cache):
    path = replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS))
    ArchiveFiles([path])
    (file,) = (own_cache / "datasets").iterdir()
    for content in (b"", file.read_bytes()[:-50], b"\0" * 1000):
        file.write_bytes(content)
        assert len(ArchiveFiles([path])) == 3


def test_a_cache_that_cannot_be_written_is_told_of(tmp_path, monkeypatch):
    replicas.write(tmp_path / "file", b"")
    monkeypatch.setenv("DCAE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written .*; set DCAE_CACHE"):
        assert len(ArchiveFiles([replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS))])) == 3


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("DCAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "dcae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "dcae"
