# SPDX-License-Identifier: Apache-2.0
"""The full-size bench hold every row of the paper's tables of diffusion models, each beside its own numbers."""

from __future__ import annotations

import io
from pathlib import Path

import pandas
import pytest
import yaml

from dcae.benchmark import Benchmark, Config
from evaluation.published import read_published
from evaluation.tables.ablations import build_ablations
from evaluation.tables.cells import planned_cells
from evaluation.tables.choices import choices_of
from evaluation.tables.formats import to_csv
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


@pytest.mark.parametrize(("table", "besides"), [(1, 5), (3, 5), (4, 0), (5, 0)])
def test_the_paper_benchmark_has_every_row_of_a_table(paper, table, besides):
    """Besides: DiT-XL on DC-AE-f32, printed in Table 3 alone, in Table 1; Flux-VAE with its shift, in Table 3; UViT-S
    on released DC-AEs and on SD-VAEs trained here.
    """
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


# How the autoencoders of the paper's rows were made. SD-VAEs and Flux-VAE are public; DC-AEs were trained on ImageNet
# ("in") or on a mixture ("mix"), and so were Table 2's baselines (arXiv 2410.10733, section 4.1).
IMAGENET, MIXTURE = "trained on ImageNet", "trained on FFHQ, ImageNet, MapillaryVistas, SAM"
PUBLIC = {
    "SD-VAE-f8": "stabilityai/sd-vae-ft-ema",
    "SD-VAE-f16": "ldm/kl-f16.safetensors",
    "SD-VAE-f32": "ldm/kl-f32.safetensors",
    "Flux-VAE-f8": "black-forest-labs/FLUX.1-schnell",
}
POSTERIORS = {3: "sample", 1: "sample", 4: "sample", 5: "moments"}
# The diffusion models: the released one that was not trained by the authors, or steps and batch of the training.
FACEBOOK = "facebook/DiT-XL-2-512"
TRAINED = {"UViT-S": (500_000, 1024), "UViT-H": (500_000, 1024), "DiT-XL": (3_000_000, 256)}
LONGER = (2_000_000, 1024)


def papers_autoencoders(value) -> set[str]:
    """What the autoencoder of a published row may be here: its weights, or one trained on its data."""
    name = value.autoencoder.rstrip("†")
    if name in PUBLIC:
        return {PUBLIC[name]}
    on_mixture = value.table in ("4", "5") or value.dataset in ("FFHQ", "MapillaryVistas")
    data = "mix" if on_mixture else "in"
    channels = {"f32": "f32c32", "f64": "f64c128", "f128": "f128c512"}
    trained = {MIXTURE if on_mixture else IMAGENET}
    if name.startswith("SD-VAE"):
        return trained
    return trained | {f"mit-han-lab/dc-ae-{channels[name.removeprefix('DC-AE-')]}-{data}-1.0-diffusers"}


def autoencoder_of(benchmark: Benchmark, name: str) -> str:
    entry = benchmark.autoencoder(name)
    if entry.recipe is None:
        return entry.pretrained.id
    data = {benchmark.dataset(each).paper_name for each in benchmark.recipe(entry.recipe).datasets}
    return f"trained on {', '.join(sorted(data))}"


def published_rows(benchmark: Benchmark, table: int) -> list[tuple]:
    """Cells of a table that stand beside a published row, with that row."""
    kind = "reconstruction" if table == 2 else "generation"
    cells = [cell for each, cell in planned_cells(benchmark) if each == kind and table in cell.tables]
    found = [(cell, {row.published(PUBLISHED, table, m.published_name) for m in METRICS[table]})
             for cell in cells for row in [Row(cell, {})]]  # fmt: skip
    return [(cell, next(iter(values - {None}))) for cell, values in found if values - {None}]


@pytest.mark.parametrize("table", [1, 2, 3, 4, 5])
def test_beside_each_published_row_stands_a_cell_of_the_papers_data_and_weights(paper, table):
    pairs = published_rows(paper, table)
    assert {value.row for _, value in pairs} == {value.row for value in PUBLISHED.rows(table)}
    for cell, value in pairs:
        assert autoencoder_of(paper, cell.autoencoder) in papers_autoencoders(value), (cell.autoencoder, value.row)
        if value.autoencoder in PUBLIC:
            assert paper.autoencoder(cell.autoencoder).posterior == POSTERIORS[table]
        assert (cell.dataset_paper_name, cell.resolution) == (value.dataset, value.resolution)


@pytest.mark.parametrize("table", [1, 3])
def test_diffusion_models_of_imagenet_are_the_papers(paper, table):
    for cell, value in published_rows(paper, table):
        entry = paper.diffusion(cell.diffusion)
        recipe = paper.recipe(entry.recipe)
        if (value.diffusion, value.autoencoder, value.patch_size) == ("DiT-XL", "SD-VAE-f8", 2):
            assert entry.pretrained.id == FACEBOOK and entry.guided_channels == "first-three"
        else:
            wanted = LONGER if value.autoencoder.endswith("†") else TRAINED[value.diffusion]
            assert not entry.pretrained and (recipe.steps, recipe.batch_size) == wanted
        assert entry.guidance_scale == (1.3 if (value.diffusion, value.autoencoder) == ("DiT-XL", "DC-AE-f32") else 1.5)


def test_what_the_paper_leaves_open_of_its_rows_is_marked(paper):
    """Tables 4 and 5: steps, weights, numbers of samples and data; everywhere: the seed."""
    marked = {(choice.entry, choice.field) for choice in choices_of(paper)}
    table_4, table_5 = "generation.dit-s on mjhq-30k (table 4)", "generation.pixart-xl on mjhq-30k (table 5)"
    assert {
        ("paper", "seed"),
        ("paper", f"{table_4}.generation_images"),
        ("paper", f"{table_5}.dataset"),
        ("paper", f"{table_5}.generation_images"),
        ("dit-400k", "steps"),
        ("dit", "steps"),
        ("dit", "latents"),
        ("dit-s", "conditioning"),
        ("pixart", "label_dropout"),
        ("dc-ae-f64c128", "shortcut"),
        ("dc-ae", "generation_images"),
        ("dc-ae", "generation_reference_images"),
        ("dc-ae-three-phase-mixture", "datasets"),
    } <= marked
    reasons = {(choice.entry, choice.field): choice.reason for choice in choices_of(paper)}
    assert "MapillaryVistas 1" in reasons["dc-ae-three-phase-mixture", "datasets"]
    assert "12,635 images" in reasons["dc-ae-three-phase-mixture", "datasets"]
    for phase in ("high-resolution-latent-adaptation", "low-resolution-local-refinement"):
        assert "BatchNorm" in reasons["dc-ae-three-phase", f"phases.{phase}.trains"]


def test_sd_vaes_trained_here_have_no_published_numbers_in_tables_1_and_3(paper):
    mine = {"sd-vae-f8", "sd-vae-f16", "sd-vae-f32"}
    of_mine = {cell.autoencoder: cell.published_dataset for table in (1, 3) for cell in cells_of(paper, table)}
    assert {name: of_mine[name] for name in mine} == dict.fromkeys(mine)


def cells_of(benchmark: Benchmark, table: int) -> list:
    return [row.cell for row in rows(benchmark, table)]


def test_the_row_with_the_dit_papers_numbers_is_measured_by_adm_too(paper):
    for benchmark in (paper, Benchmark.load(CONFIG / "released-diffusion.yaml")):
        [cell] = [cell for cell in benchmark.cells.generation if cell.diffusion == "dit-xl-2-512"]
        assert [protocol.name for protocol in benchmark.generation_protocols(cell)] == ["dc-ae", "adm"]
    row = {"dataset": "ImageNet", "resolution": 512, "diffusion": "DiT-XL", "autoencoder": "SD-VAE-f8", "patch_size": 2}
    assert PUBLISHED.find(3, "fid_with_guidance", **row).protocol.startswith("adm: the DiT paper's own")


def test_released_models_name_the_recipe_that_they_were_trained_by():
    config = Config()
    recipes = {name: config.entry("diffusion", name).recipe for name in RELEASED}
    assert recipes["dit-xl-in-512px-f32c32-trainbs1024"] == "dit-batch1024"
    recipe = config.entry("recipes", "dit-batch1024")
    assert (recipe.batch_size, recipe.optimiser.learning_rate) == (1024, 2e-4)
    assert config.entry("diffusion", "dit-xl-in-512px-f32c32-trainbs1024").guidance_scale == 1.5
    assert {recipes[name] for name in RELEASED if name.endswith("train2000k")} == {"uvit-2000k"}


def test_figures_3a_and_3b_have_the_papers_series():
    benchmark = Benchmark.load(CONFIG / "ablations.yaml")
    planned = [cell for kind, cell in planned_cells(benchmark) if kind == "reconstruction"]
    data = pandas.read_csv(io.StringIO(to_csv(build_ablations([], planned=planned))))
    found = data.set_index(["Study", "Autoencoder", "Resolution"])["rFID, paper"].dropna()
    assert found["shortcuts"].to_dict() == {("dc-ae-f64c256", 256): 0.50, ("sd-vae-f64c256", 256): 28.3}
    assert found["high-resolution"].to_dict() == {
        ("dc-ae-f64c128-no-high-resolution", 256): 0.50,
        ("dc-ae-f64c128-no-high-resolution", 1024): 7.40,
        ("dc-ae-f64c128", 1024): 0.20,
        ("sd-vae-f8", 256): 0.51,
        ("sd-vae-f8", 1024): 0.19,
    }
    stacked = [benchmark.autoencoder(f"sd-vae-{name}") for name in ("f8", "f16c16", "f32c64", "f64c256")]
    assert {entry.latent_channels / entry.spatial_compression**2 for entry in stacked} == {1 / 16}
    speeds = Config().entry("suites", "autoencoders").resolutions  # of the blocks study
    assert {256, 512, 1024} <= {*speeds["dc-ae-f32c32"]} & {*speeds["dc-ae-f32c32-transformer"]}
    everything = benchmark.final_training("dc-ae-f64c128-full-adaptation").start.settings
    assert (everything.resolution, everything.trains) == (512, "all")


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
