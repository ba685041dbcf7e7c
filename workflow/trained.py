# SPDX-License-Identifier: Apache-2.0
"""Weights that were trained here are compared with the record of their training before they are used."""

from __future__ import annotations

import json
from pathlib import Path

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
        recorded = [
            _files(path) for path in sorted(state.glob("*/completed.json"), key=lambda path: path.stat().st_mtime)
        ]
        found = {Path(path).name: content for path, content in content_hashes([folder]).items()}
        damaged = [_differing(each, found) for each in recorded]
        if damaged and all(damaged):
            path = folder / damaged[-1][0]
            raise WeightsError(f"{path} is not as its training wrote it (sha256 differs); {set_aside(path)}")


def _files(completed: Path) -> dict[str, str]:
    """Return the files of a finished training with their sha256; none if the record is damaged."""
    try:
        return json.loads(completed.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        return {}


def _differing(recorded: dict[str, str], found: dict[str, str]) -> list[str]:
    return [name for name, content in found.items() if name in recorded and recorded[name] != content]
