# SPDX-License-Identifier: Apache-2.0
"""Which commit of the hub a file came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub._local_folder import write_download_metadata

from dcae.weights.hub import hub_commit

COMMIT, SHA = "0123456789" * 4, "ab" * 32


def test_the_cache_of_the_hub_has_the_commit_in_the_path(tmp_path):
    snapshots = tmp_path / "models--a--b" / "snapshots"
    assert hub_commit(snapshots / COMMIT / "vae" / "model.safetensors", SHA) == COMMIT
    assert hub_commit(snapshots / "main" / "model.safetensors", SHA) is None


@pytest.mark.parametrize("name", ["model.safetensors", "vae/model.safetensors"])
@pytest.mark.parametrize(("etag", "known"), [(SHA, True), ("cd" * 32, False), ("a-git-hash", True)])
def test_a_downloaded_folder_has_it_beside_the_file_unless_that_was_replaced(tmp_path, monkeypatch, name, etag, known):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    write_download_metadata(tmp_path, name, COMMIT, etag)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert hub_commit(path, SHA) == (COMMIT if known else None)


def test_of_other_files_it_is_not_known(tmp_path):
    assert hub_commit(tmp_path / "model.safetensors", SHA) is None
