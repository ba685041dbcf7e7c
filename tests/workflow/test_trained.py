# SPDX-License-Identifier: Apache-2.0
"""Weights that are not as their training wrote them are refused, and restored by the training."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcae.training.state import TrainingState
from dcae.weights.catalogue import WeightsError
from workflow.trained import check_trained

WEIGHTS = "model.safetensors"


@pytest.fixture
def training(tmp_path) -> TrainingState:
    state = TrainingState(tmp_path / "trained.state", {"configuration": "a"})
    state.create()
    state.log.write_text("")

    def save(folder: Path) -> None:
        (folder / WEIGHTS).write_text("weights")
        (folder / "config.json").write_text("{}")

    state.complete(save)
    state.publish(tmp_path / "trained")
    return state


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_damaged_file_is_named_and_restored(training, tmp_path, name):
    folder = tmp_path / "trained"
    check_trained(None, folder)
    whole = (folder / name).read_text()
    (folder / name).write_text(f"{whole}!")
    with pytest.raises(WeightsError, match=rf"{name} is not as its training wrote it .*; kept as {name}.damaged"):
        check_trained(folder)
    assert not (folder / name).exists(), "the workflow makes again what is missing"
    training.publish(folder)
    assert (folder / name).read_text() == whole
    check_trained(folder)


def test_weights_of_an_earlier_training_and_those_from_elsewhere_are_taken(training, tmp_path):
    later = TrainingState(tmp_path / "trained.state", {"configuration": "b"})
    later.create()
    later.log.write_text("")
    later.complete(lambda folder: (folder / WEIGHTS).write_text("others"))
    check_trained(tmp_path / "trained")
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / WEIGHTS).write_text("anything")
    check_trained(tmp_path / "brought")
