# SPDX-License-Identifier: Apache-2.0
"""The full-size bench hold every row of the paper's tables of diffusion models, each beside its own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, Config
from evaluation.published import read_published
from evaluation.tables.cells import planned_cells
from evaluation.tables.metrics import METRICS
from evaluation.tables.numbers import paper_value
from evaluation.tables.rows import Row
from workflow.commands.tables import tables
from workflow.jobs import Jobs

CONFIG = Path(__file__).parents[2] / "config"
PUBLISHED = read_published()
# The README of the DC-AE authors' code, and facebook/DiT-XL-2-512: FID without and with guidance.
RELEASED = {
    "dit-xl-2-512": (12.03, 3.04),
    "dit-xl-in-512px-f32c32": (9.56, 2.84),
    "dit-xl-in-512px-f32c32-trainbs1024": (6.88, 2.41),
    "uvit-s-in-512px-f32c32": (46.12, 18.08),
    "uvit-h-in-512px-f32c32": (9.83, 2.53),
    "uvit-h-in-512px-f64c128": (13.96, 3.01),
    "uvit-h-in-512px-f64c128-train2000k": (12.26, 2.66),
    "uvit-2b-in-512px-f32c32": (8.13, 2.30),
    "uvit-2b-in-512px-f64c128": (7.78, 2.47),
    "uvit-2b-in-512px-f64c128-train2000k": (6.50, 2.25),
    "usit-h-in-512px-f32c32": (3.80, 1.89),
    "usit-2b-in-512px-f32c32": (2.90, 1.72),
}


def rows(benchmark: Benchmark, table: int) -> list[Row]:
    generation = [cell for kind, cell in planned_cells(benchmark) if kind == "generation"]
    return [Row(cell, {}) for cell in generation if table in cell.tables]


@pytest.fixture(scope="module")
def paper() -> Benchmark:
    return Benchmark.load(CONFIG / "paper.yaml")


@pytest.mark.parametrize(("table", "besides"), [(1, 1), (3, 1), (4, 0), (5, 0)])
def test_the_paper_benchmark_has_every_row_of_a_table(paper, table, besides):
    """Besides: DiT-XL on DC-AE-f32, printed in Table 3 alone, in Table 1; and Flux-VAE with its shift, in Table 3."""
    planned = rows(paper, table)
    found = [row.published(PUBLISHED, table, metric.published_name) for row in planned for metric in METRICS[table]]
    printed = {value.row for value in PUBLISHED.rows(table)}
    assert {value.row for value in found if value} == printed
    assert len(planned) == len(printed) + besides


def test_the_papers_reconstructions_stand_beside_the_weights_that_they_are_of():
    """The released models come in two sets: trained on ImageNet (in), and on a mixture (mix)."""
    planned = planned_cells(Benchmark.load(CONFIG / "pretrained.yaml"))
    found = {
        (cell.autoencoder, cell.resolution): Row(cell, {}).published(PUBLISHED, 2, "rfid")
        for kind, cell in planned
        if kind == "reconstruction" and cell.autoencoder.startswith("dc-ae-f") and "sana" not in cell.autoencoder
    }
    printed = {key: value.value for key, value in found.items() if value}
    assert printed[("dc-ae-f32c32-in-1.0", 256)] == 0.69
    assert printed[("dc-ae-f64c128-in-1.0", 512)] == 0.22
    assert not any("mix" in name for name, _ in printed)


def test_samples_are_as_many_as_real_images_and_at_most_50_000(paper):
    images = {cell.dataset: paper.generation_protocols(cell)[0].generation_images for cell in paper.cells.generation}
    assert images == {"imagenet": 50_000, "ffhq": 50_000, "mjhq-30k": 27_000, "mapillary-vistas": 18_000}
    for name, number in images.items():
        assert number <= paper.dataset(name).expected_images.train


def test_released_diffusion_models_stand_beside_their_own_numbers():
    benchmark = Benchmark.load(CONFIG / "released-diffusion.yaml")
    numbers = {
        row.cell.diffusion: tuple(
            paper_value(row, metric, PUBLISHED, 3).value for metric in METRICS[3] if metric.name.startswith("fid")
        )
        for row in rows(benchmark, 3)
    }
    assert numbers == RELEASED
    entries = [Config().entry("diffusion", name) for name in Config().files("diffusion")]
    released = {entry.name for entry in entries if entry.pretrained and entry.conditioning == "class"}
    assert set(RELEASED) == released
    assert all(benchmark.is_released(cell.diffusion) for cell in benchmark.cells.generation)
    assert not any(benchmark.final_training(name) for name in benchmark.all_autoencoders)


def test_latents_have_the_shape_that_released_diffusion_models_were_trained_on():
    benchmark = Benchmark.load(CONFIG / "released-diffusion.yaml")
    for cell in benchmark.cells.generation:
        autoencoder = benchmark.autoencoder(cell.autoencoder)
        f, channels = autoencoder.spatial_compression, autoencoder.latent_channels
        assert f"f{f}c{channels}" in cell.diffusion or (f, channels, cell.diffusion) == (8, 4, "dit-xl-2-512")


def test_tables_that_only_some_benchmarks_have_are_those_that_the_workflow_asks_for(tmp_path):
    reconstruction = {"protocol": "faces-and-text", "datasets": {"scenes": {64: None}}}
    plan = {"diffusion": "uvit-demo", "dataset": "scenes", "resolution": 64, "patch_sizes": {32: [1]}, "tables": [3]}
    mine = {"description": "mine", "autoencoders": ["blur"], "reconstruction": reconstruction}
    generating = mine | {
        "autoencoders": ["dc-ae-f32-demo"], "reconstruction": reconstruction | {"protocol": "dc-ae"},
        "generation": [plan], "generation_protocol": "dc-ae", "efficiency_protocol": "demo-efficiency",
        "additional_generation_protocols": ["adm", "clean-fid"],
    }  # fmt: skip
    found = {}
    for name, content in {"mine": mine, "generating": generating}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        tables(path, tmp_path)
        jobs = Jobs(str(path))
        found[name] = {Path(file).name for file in (*jobs.table_files, *jobs.table_pages)}
        assert {each.name for each in (tmp_path / name / "tables").iterdir()} == found[name]
    assert {"subsets.csv", "generation_protocols.csv"} & found["mine"] == {"subsets.csv"}
    assert {"subsets.csv", "generation_protocols.csv"} & found["generating"] == {"generation_protocols.csv"}
