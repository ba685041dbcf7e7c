# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a running training: written atomically, checked when read, the last two kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from dcae.files import sha256
from dcae.training.logging import report

KEPT = 2
PATTERN = "checkpoint-*.pt"


def path_of(folder: Path, step: int) -> Path:
    """Where a step's checkpoint lies."""
    return folder / f"checkpoint-{step:08d}.pt"


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def write(folder: Path, step: int, content: dict[str, Any]) -> Path:
    """Write a step's checkpoint (tensors, numbers, strings and containers of them), then drop all but the last two.

    The file appears complete or not at all, after its digest: what bears a checkpoint's name was written to its end.
    """
    path = path_of(folder, step)
    temporary = folder / ".checkpoint.partial"  # one name, so that killed processes leave one such file at most
    with temporary.open("wb") as file:
        torch.save({"step": step, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    _digest_file(path).write_text(sha256(temporary) + "\n")
    os.replace(temporary, path)
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        remove(old)
    return path


def remove(path: Path) -> None:
    """Remove a checkpoint and its digest."""
    path.unlink(missing_ok=True)
    _digest_file(path).unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """True if the file is byte for byte what was written."""
    digest_file = _digest_file(path)
    return digest_file.is_file() and sha256(path) == digest_file.read_text().strip()


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; a damaged one is renamed to ``*.unreadable`` and reported."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        if is_whole(path):
            return path
        aside = path.with_suffix(".pt.unreadable")
        os.replace(path, aside)
        report(f"checkpoint {path} is damaged; kept as {aside.name}, going back to the one before it")
    return None


def read(path: Path) -> dict[str, Any]:
    """Content of one checkpoint, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)
