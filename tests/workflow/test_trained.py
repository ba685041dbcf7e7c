# SPDX-License-Identifier: Apache-2.0
"""Weights that were trained here: damaged ones are refused and restored; equal trainings share them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dcae.benchmark import Benchmark
from dcae.training.state import TrainingState
from dcae.weights.catalogue import WeightsError
from tests.workflow.test_commands import dcae
from workflow import layout
from workflow.planning.plan import plan
from workflow.planning.site import Site
from workflow.trained import check_trained, taken_from

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


PHASE = {"autoencoder": "dc-ae-tiny", "phase": "low-resolution-full"}


@pytest.fixture
def train(monkeypatch, tmp_path, capsys):
    """Train the first phase of a benchmark in ``config``; returns its folder and what the command said."""
    shutil.copytree(Path(__file__).parent / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)

    def run(benchmark: str) -> tuple[Path, str]:
        output = layout.file(benchmark, layout.AUTOENCODER, **PHASE)
        options = [part for name, value in PHASE.items() for part in (f"--{name}", value)]
        state = str(layout.file(benchmark, layout.AUTOENCODER_STATE, **PHASE))
        options += ["--output", str(output), "--state", state, "--log-with", "none"]
        assert dcae(monkeypatch, "train", "autoencoder", f"config/{benchmark}.yaml", *options) == 0
        return output, capsys.readouterr().out

    return run


def test_a_copy_of_a_benchmark_trains_nothing_and_one_of_another_seed_or_recipe_does(train):
    text = Path("config/tiny.yaml").read_text()
    for name, content in {"copy": text, "seeded": f"{text}seed: 1\n"}.items():
        Path(f"config/{name}.yaml").write_text(content)
    trained, said = train("tiny")
    assert "taken from" not in said and "step 6/6" in said
    planned = {name: plan(Benchmark.load(f"config/{name}.yaml"), Site.here()).content() for name in ("copy", "seeded")}
    assert {name: each["total"]["taken_over"] for name, each in planned.items()} == {"copy": 1, "seeded": 0}
    copied, said = train("copy")
    assert "taken from results/tiny/autoencoders/dc-ae-tiny/low-resolution-full.state/" in said
    assert "step 6/6" not in said
    assert files_of(copied) == files_of(trained)
    [remark] = taken_from(copied)
    assert remark.startswith("low-resolution-full: trained in results/tiny/") and taken_from(trained) == []
    other, said = train("seeded")
    assert "taken from" not in said and files_of(other) != files_of(trained)
    recipe = Path("config/recipes/tiny-two-phase.yaml")
    recipe.write_text(recipe.read_text().replace("steps: 6", "steps: 5"))
    shutil.rmtree("results/copy")
    changed, said = train("copy")
    assert "taken from" not in said and "step 5/5" in said and files_of(changed) != files_of(trained)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != layout.LOG}


def test_states_of_other_benchmarks_are_those_at_the_same_place(tmp_path):
    states = [layout.file(name, layout.AUTOENCODER_STATE, tmp_path, **PHASE) for name in ("a", "b", "c")]
    for state in states:
        state.mkdir(parents=True)
    assert layout.elsewhere(states[1], "b", layout.AUTOENCODER_STATE, **PHASE) == [states[0], states[2]]
    assert layout.elsewhere(tmp_path / "my-state", "b", layout.AUTOENCODER_STATE, **PHASE) == []
