# SPDX-License-Identifier: Apache-2.0
"""Checkpoints on disk."""

from __future__ import annotations

import pytest
import torch

from dcae.training import checkpoint


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept_and_read_back(tmp_path):
    for step in (10, 20, 30):
        checkpoint.write(tmp_path, step, {"weights": {"w": torch.full((2,), float(step))}, "rates": [0.1, (1, "a")]})
    assert names(tmp_path) == [f"checkpoint-{step:08d}.pt{ending}" for step in (20, 30) for ending in ("", ".sha256")]
    content = checkpoint.read(checkpoint.newest(tmp_path))
    assert content["step"] == 30
    assert content["weights"]["w"].tolist() == [30, 30]
    assert content["rates"] == [0.1, (1, "a")]


def test_no_checkpoint(tmp_path):
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "digest"])
def test_a_damaged_one_is_set_aside(tmp_path, capsys, damage):
    old = checkpoint.write(tmp_path, 1, {"w": torch.zeros(100)})
    new = checkpoint.write(tmp_path, 2, {"w": torch.ones(100)})
    content = new.read_bytes()
    middle = len(content) // 2
    if damage == "digest":
        new.with_suffix(".pt.sha256").unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        new.write_bytes({"empty": b"", "cut": content[:middle], "bit": flipped}[damage])
    assert checkpoint.newest(tmp_path) == old
    assert "checkpoint-00000002.pt is damaged" in capsys.readouterr().out
    assert (tmp_path / "checkpoint-00000002.pt.unreadable").exists()


def test_a_write_that_fails_leaves_the_checkpoints_alone(tmp_path):
    old = checkpoint.write(tmp_path, 1, {"w": torch.zeros(3)})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.write(tmp_path, 2, {"w": lambda: None})
    assert checkpoint.newest(tmp_path) == old


def test_code_is_not_read(tmp_path):
    """A file of foreign origin may hold pickled code; reading a checkpoint must not run it."""
    path = checkpoint.write(tmp_path, 1, {"w": Surprise()})
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoint.read(path)


class Surprise:
    def __reduce__(self):
        return (pytest.fail, ("code inside a checkpoint was run",))
