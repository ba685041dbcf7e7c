# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that extend another, use other recipes, and train an autoencoder with several seeds."""

import pytest
import yaml

from dcae.benchmark.benchmark import Benchmark
from dcae.benchmark.benchmark_file import membership
from dcae.benchmark.cells import ReconstructionCell
from dcae.benchmark.config import ConfigError

BASE = "dc-ae-f32-demo"
ABOVE = {
    "description": "with seeds",
    "autoencoders": [BASE],
    "studies": {"gan": [{"base": BASE, "variants": {"dc-ae-f32-no-gan-demo": "no GAN"}}]},
    "seeds": {BASE: [1, 2], "dc-ae-f32-no-gan-demo": [1]},
    "reconstruction": {"protocol": "random-features", "datasets": {"scenes": {64: None}}},
}


def load(folder, **fields):
    (folder / "above.yaml").write_text(yaml.safe_dump(ABOVE))
    (folder / "below.yaml").write_text(yaml.safe_dump({"extends": "above", **fields}))
    return Benchmark.load(folder / "below.yaml")


def test_each_seed_is_a_training_and_a_cell_of_its_own(tmp_path):
    benchmark = load(tmp_path, description="shorter")
    names = {cell.autoencoder for cell in benchmark.cells.reconstruction}
    assert names == {BASE, "dc-ae-f32-no-gan-demo", f"{BASE}@seed1", f"{BASE}@seed2", "dc-ae-f32-no-gan-demo@seed1"}
    training = benchmark.final_training("dc-ae-f32-no-gan-demo@seed1")
    assert [each.seed for each in training.chain] == [1, 1, 1]
    assert training.start.autoencoder == f"{BASE}@seed1"
    assert benchmark.final_training(BASE).seed == benchmark.seed == 0
    cell = benchmark.resolve(ReconstructionCell("scenes", 64, f"{BASE}@seed2"))
    assert (cell.seed, cell.autoencoder.group) == (2, "autoencoders")
    assert benchmark.group("dc-ae-f32-no-gan-demo@seed1") == "ablations"
    assert membership(benchmark.content.studies, "dc-ae-f32-no-gan-demo@seed1")["base"] == BASE
    assert f"{BASE}@seed1" not in [entry.name for _, entry in benchmark.entries_used()]


def test_a_benchmark_that_extends_another_gives_its_differences(tmp_path):
    benchmark = load(tmp_path, description="shorter", seeds=None, studies={"gan": None})
    assert benchmark.all_autoencoders == [BASE] and benchmark.name == "below"
    with pytest.raises(ConfigError, match="description"):  # not inherited
        load(tmp_path)


def test_benchmarks_do_not_extend_each_other_in_a_circle(tmp_path):
    with pytest.raises(ConfigError, match="circle: below -> below"):
        load(tmp_path, extends="below")


def test_a_benchmark_uses_another_recipe_in_the_place_of_an_entrys(tmp_path):
    benchmark = load(tmp_path, description="x", studies=None, seeds=None, recipes={"demo-three-phase": "demo-short"})
    assert benchmark.final_training(BASE).recipe.name == "demo-short"


@pytest.mark.parametrize(
    "seeds, message",
    [
        ({"dc-ae-f64-demo": [1]}, "is not measured here"),
        ({BASE: [0]}, "not 0, the benchmark's"),
        ({"identity": [1]}, "is not trained"),
    ],
)
def test_seeds_that_mean_nothing_are_errors(tmp_path, seeds, message):
    with pytest.raises(ConfigError, match=message):
        load(
            tmp_path,
            description="x",
            controls=["identity"],
            studies={"gan": None},
            seeds={BASE: None, "dc-ae-f32-no-gan-demo": None} | seeds,
        )
