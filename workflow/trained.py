# SPDX-License-Identifier: Apache-2.0
"""Weights that were trained here are compared with the record of their training before they are used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dcae.files import content_hashes, set_aside
from dcae.weights.catalogue import WeightsError


def check_trained(*folders: Path | None) -> None:
    """Compare configuration and weights in folders of trained models with the sha256 that their trainings recorded.

    A folder without the state of its training, as one that was brought from elsewhere, is not compared; one that is
    missing is refused where it is opened.

    Raises:
        WeightsError: a file is damaged; it is set aside, so that the training puts its copy there.
    """
    for folder in (each for each in folders if each and each.is_dir()):
        state = folder.with_name(f"{folder.name}.state")
        completed = sorted(state.glob("*/completed.json"), key=lambda path: path.stat().st_mtime)
        recorded = [_read(path).get("files", {}) for path in completed]
        found = {Path(path).name: content for path, content in content_hashes([folder]).items()}
        damaged = [_differing(each, found) for each in recorded]
        if damaged and all(damaged):
            path = folder / damaged[-1][0]
            raise WeightsError(f"{path} is not as its training wrote it (sha256 differs); {set_aside(path)}")


def taken_from(*folders: Path | None) -> list[str]:
    """Return a remark on each model that was taken over from another benchmark's training of the same identity."""
    remarks = []
    for folder in filter(None, folders):
        recorded = map(_read, folder.with_name(f"{folder.name}.state").glob("*/completed.json"))
        for completed in (each for each in recorded if "taken_from" in each):  # others need no sha256 of weights
            found = {Path(path).name: content for path, content in content_hashes([folder]).items()}
            if not _differing(completed["files"], found):
                remarks.append(f"{folder.name}: trained in {completed['taken_from']}, equal configuration and data")
    return remarks


def finished_in(states: Iterable[Path], configuration: str) -> bool:
    """Return whether a training of a configuration has ended in one of these state folders; its data may differ."""
    found = (_read(path).get("identity", {}) for state in states for path in state.glob("*/completed.json"))
    return any(identity.get("configuration") == configuration for identity in found)


def _read(completed: Path) -> dict[str, Any]:
    """Return the record of a finished training; an empty one if it is damaged."""
    try:
        content = json.loads(completed.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("files"), dict) else {}


def _differing(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    return [name for name, content in found.items() if name in recorded and recorded[name] != content]
