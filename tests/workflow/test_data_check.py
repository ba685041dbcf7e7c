# SPDX-License-Identifier: Apache-2.0
"""``dcae data check`` by hand: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import sys

import pytest

from tests.data import replicas
from workflow import cli


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Exit status, output and errors of a check of two small splits."""
    monkeypatch.chdir(tmp_path)
    for name in ("train/cat/a", "train/cat/b", "train/dog/c", "validation/cat/d", "validation/dog/e"):
        replicas.write(tmp_path / "images" / f"{name}.jpg", replicas.encoded(name, (30, 20 + 5 * ord(name[-1]) % 7)))
    replicas.write(tmp_path / "mine.yaml", f"kind: folder\npath: {tmp_path}/images\nexpected_images: {{train: 3}}\n")

    def run(*options: str):
        monkeypatch.setattr(sys, "argv", ["dcae", "data", "check", "mine.yaml", "--processes", "1", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_a_good_data_set_passes_and_leaves_a_manifest(check, tmp_path):
    status, output, errors = check("--resolution", "16", "--resolution", "25")
    assert status == 0
    assert "train: 3 images" in output and "2 classes of 1 to 2 images" in output
    assert "no file is in both splits" in output
    assert "enlarged by a crop at 25 px" in output
    assert "fingerprint " in output and (tmp_path / "results/datasets/mine.parquet").is_file()
    assert "train" in errors and "3/3" in errors, "progress is told apart from the result"


def test_the_machine_readable_form_says_the_same(check):
    status, output, _ = check("--json", "--manifest", "m.parquet", "--split", "train")
    found = json.loads(output)
    assert (status, found["passed"], found["manifest"]) == (0, True, "m.parquet")
    assert found["splits"]["train"]["classes"] == {"cat": 2, "dog": 1}
    assert set(found["splits"]["train"]["smaller"]) == {"256", "512", "1024", "2048"}


def test_an_unreadable_image_is_named_and_fails_the_check(check, tmp_path):
    replicas.write(tmp_path / "images/train/dog/f.jpg", b"")
    status, output, _ = check()
    assert status == 1
    assert "UNUSABLE 1 image" in output and "f.jpg: cannot be read as an image (the file is empty)" in output
    assert "EXPECTED 3 images" in output


def test_what_is_drawn_cannot_be_checked(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dcae", "data", "check", "scenes"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.EXIT_ERROR
    assert "it has no image files to check" in capsys.readouterr().err
