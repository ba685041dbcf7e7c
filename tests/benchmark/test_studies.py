# SPDX-License-Identifier: Apache-2.0
"""Studies in a benchmark's file: what is measured for them, what cells say of them, and errors before any job."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from dcae.benchmark import Benchmark, ConfigError
from dcae.benchmark.benchmark_file import StudyName, membership

CONFIG = Path(__file__).parents[2] / "config"
FAMILIES = Path(__file__).with_name("families.yaml")
STUDY = {"base": "dc-ae-f64-demo", "variants": {"dc-ae-f64-no-high-resolution-demo": "no high-resolution phase"}}


def benchmark_of(tmp_path: Path, study: dict, name: str = "high-resolution", **fields) -> Benchmark:
    content = yaml.safe_load(FAMILIES.read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, "studies": {name: [study]}, **fields}))
    return Benchmark.load(tmp_path / "mine.yaml")


def places_of(benchmark: Benchmark, autoencoder: str) -> set[tuple[str, int]]:
    cells = benchmark.cells.reconstruction
    return {(cell.dataset, cell.resolution) for cell in cells if cell.autoencoder == autoencoder}


def test_a_variant_is_measured_where_its_study_says_or_everywhere(tmp_path):
    (variant,) = STUDY["variants"]
    everywhere = {("scenes", 64), ("scenes", 128)}
    assert places_of(benchmark_of(tmp_path, STUDY), variant) == everywhere
    here = benchmark_of(tmp_path, {**STUDY, "datasets": {"scenes": [64]}})
    assert places_of(here, variant) == {("scenes", 64)}
    assert places_of(here, "dc-ae-f64-demo") == everywhere  # its rows of Table 2


def test_a_base_that_is_named_nowhere_else_is_measured_for_its_study_alone(tmp_path):
    study = {
        "base": "dc-ae-f8c4-demo",
        "datasets": {"scenes": [64]},
        "variants": {"dc-ae-f8c4-no-residual-demo": "no residual shortcuts"},
    }
    benchmark = benchmark_of(tmp_path, study, "shortcuts")
    assert places_of(benchmark, "dc-ae-f8c4-demo") == {("scenes", 64)}
    assert benchmark.group("dc-ae-f8c4-demo") == "bases"
    assert benchmark.group("dc-ae-f8c4-no-residual-demo") == "ablations"
    assert not any(cell.autoencoder.startswith("dc-ae-f8c4") for cell in benchmark.cells.generation)
    assert len(benchmark.cells.reconstruction) == len(set(benchmark.cells.reconstruction))


def test_a_cell_says_what_its_variant_belongs_to(tmp_path):
    studies = benchmark_of(tmp_path, STUDY).content.studies
    assert membership(studies, "dc-ae-f64-no-high-resolution-demo") == {
        "study": "high-resolution",
        "base": "dc-ae-f64-demo",
        "differs": "no high-resolution phase",
    }
    assert set(membership(studies, "dc-ae-f64-demo").values()) == {None}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("high-resolutoin", {}, r"studies.high-resolutoin.*'shortcuts', 'high-resolution'"),
        ("gan", {"base": "dc-ae-f46-demo"}, r"studies.gan.0.base: no entry 'dc-ae-f46-demo'"),
        ("gan", {"variants": {"dc-ae-f46-demo": "x"}}, r"studies.gan.0.variants: no entry .*did you mean"),
        ("gan", {"variants": {"dc-ae-f32-demo": "x"}}, r"named more than once .*: dc-ae-f32-demo"),
        ("gan", {"variants": {}}, r"studies.gan.0.variants: .*at least 1 item"),
        ("gan", {"base": "blur"}, r"studies.gan.0.base: blur is a control"),
        ("gan", {"beside": {"blur2": "x"}}, r"studies.gan.0.beside: 'blur2' has no row in Table 2"),
        ("gan", {"datasets": {"scenes": [96]}}, r"studies.gan.0.datasets: scenes at 96 px .*scenes at 64, 128 px"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_any_job(tmp_path, name, change, message):
    with pytest.raises(ConfigError, match=message):
        benchmark_of(tmp_path, {**STUDY, **change}, name)


def test_miniature_and_the_paper_s_ablations_have_every_study():
    for name in ("miniature", "ablations"):
        studies = Benchmark.load(CONFIG / f"{name}.yaml").content.studies
        assert list(studies) == [study for study in get_args(StudyName) if study != "other"]


def test_variants_share_the_phases_that_they_have_in_common_with_their_base():
    for name in ("miniature", "ablations"):
        benchmark = Benchmark.load(CONFIG / f"{name}.yaml")
        for study in ("high-resolution", "gan", "tuned-layers"):
            for group in benchmark.content.studies[study]:
                for variant in group.variants:
                    first = benchmark.final_training(variant)
                    while first.start:
                        first = first.start
                    assert (first.autoencoder, first.phase) == (group.base, "low-resolution-full")


def test_every_entry_that_a_benchmark_uses_is_found():
    used = {(kind, entry.name) for kind, entry in Benchmark.load(FAMILIES).entries_used()}
    assert {
        ("autoencoders", "dc-ae-f8c4-space-to-channel-f64-demo"),
        ("recipes", "demo-short-kl"),
        ("recipes", "demo-dit"),
        ("diffusion", "dit-demo"),
        ("datasets", "photographs"),
        ("protocols", "demo-efficiency"),
    } <= used
    ablations = Benchmark.load(CONFIG / "ablations.yaml").entries_used()
    assert {entry.name for kind, entry in ablations if kind == "protocols"} == {"dc-ae"}
