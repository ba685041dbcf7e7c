# SPDX-License-Identifier: Apache-2.0
"""What a training shows: curves in TensorBoard's files, and sample images."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcae.data.loading import open_dataset
from dcae.training import logging
from dcae.training.logging import Curves, TrackerMissing


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard makes of the files in a folder."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def state_of(state: Path) -> Path:
    """The one state folder in there."""
    (identity,) = state.glob("*/identity.json")
    return identity.parent


class Stop(Exception):
    pass


def test_a_resumed_training_has_every_point_of_its_curves_once(toy, tmp_path):
    def stop(step, _network):
        if step == 7:  # after points up to step 7, and a checkpoint at step 4
            raise Stop

    with pytest.raises(Stop):
        toy.train(tmp_path, stop)
    time.sleep(1.1)  # files are read in the order of their names, which have whole seconds in them
    toy.train(tmp_path)
    found = events(state_of(tmp_path / "state"))
    assert len(list(state_of(tmp_path / "state").glob("events.out.tfevents.*"))) == 2
    assert set(found.Tags()["scalars"]) == {
        "training/loss", "training/learning_rate", "training/images_per_second", "validation/toy"
    }  # fmt: skip
    log = [json.loads(line) for line in (tmp_path / "output" / "training_log.jsonl").read_text().splitlines()]
    for curve, name in (("training/loss", "loss"), ("validation/toy", "validation_toy")):
        points = [(point.step, point.value) for point in found.Scalars(curve)]
        assert points == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in log if name in line]  # fp32
    assert [point.step for point in found.Scalars("training/loss")] == list(range(1, 13))


def test_samples_are_images_above_their_reconstructions(tiny, tmp_path):
    recipe = tiny.recipe(tiny.phase("single", "all", steps=2))
    tiny.train(tmp_path, tiny.dc_ae(), recipe, "single")
    state = state_of(tmp_path / "single.state")
    assert sorted(path.name for path in (state / "samples").iterdir()) == [
        f"reconstructions-{step:08d}.png" for step in (1, 2)
    ]
    first, last = (np.asarray(Image.open(path)) for path in sorted((state / "samples").iterdir()))
    images = open_dataset(tiny.DATASETS["scenes"], "validation", 32).batch(range(3))
    assert last.shape == (2 * 32, 3 * 32, 3)
    np.testing.assert_array_equal(last[:32], torch.cat(list(images), dim=2).permute(1, 2, 0).numpy())
    assert not np.array_equal(first[32:], last[32:])
    shown = events(state).Images("validation/reconstructions")
    assert [(picture.step, picture.width, picture.height) for picture in shown] == [(1, 96, 64), (2, 96, 64)]


def test_without_a_tracker_there_are_only_the_pictures(tmp_path):
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    curves = Curves("none", tmp_path, "title", 0, {})
    curves.log(1, {"loss": 1.0})
    curves.show(1, "reconstructions", picture)
    curves.finish()
    assert [path.name for path in tmp_path.rglob("*.*")] == ["reconstructions-00000001.png"]
    np.testing.assert_array_equal(Image.open(tmp_path / "samples" / "reconstructions-00000001.png"), picture)


class FakeRun:
    """What the package wandb gives for a run."""

    def __init__(self, **options):
        self.options, self.points, self.ended = options, [], False

    def log(self, values, step=None, **_):
        self.points.append((step, values))

    def finish(self):
        self.ended = True


def test_weights_and_biases_gets_the_points_and_pictures_of_all_attempts_as_one_run(tmp_path, monkeypatch):
    """With a stand-in for the package, which is not a dependency."""
    runs = []
    fake = ModuleType("wandb")
    fake.init = lambda **options: runs.append(FakeRun(**options)) or runs[-1]
    fake.Image = lambda image, **_: image
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for first in (0, 2):  # two attempts at one training
        curves = Curves("wandb", tmp_path, "title", first, {"seed": "0"})
        curves.log(first + 1, {"loss": 0.5, "validation_psnr": 20.0})
        curves.show(first + 1, "reconstructions", np.zeros((2, 3, 3), np.uint8))
        curves.finish()
    assert runs[0].options["id"] == runs[1].options["id"] and runs[1].options["resume"] == "allow"
    assert runs[0].options["name"] == "title" and runs[0].options["config"] == {"seed": "0"}
    assert [step for run in runs for step, _ in run.points] == [1, 1, 3, 3]
    assert runs[0].points[0][1] == {"training/loss": 0.5, "validation/psnr": 20.0}
    assert "validation/reconstructions" in runs[0].points[1][1]
    assert all(run.ended for run in runs)


def test_a_missing_package_is_told_before_the_training(toy, tmp_path, monkeypatch):
    def must_not_run(*_):
        raise AssertionError("trained")

    monkeypatch.setattr(logging, "find_spec", lambda _name: None)
    with pytest.raises(TrackerMissing, match=r"with wandb \(--log-with or DCAE_LOG_WITH\).*pip install wandb"):
        toy.train(tmp_path, must_not_run, log_with="wandb")
    assert list(tmp_path.iterdir()) == []


def test_what_is_logged_with_decides_no_bit(toy, tmp_path):
    a, b = (toy.train(tmp_path / log_with, log_with=log_with) for log_with in ("none", "tensorboard"))
    assert all(torch.equal(a[name], b[name]) for name in a)
