# SPDX-License-Identifier: Apache-2.0
"""The workflow as a user runs it, on a benchmark that takes half a minute."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from dcae.benchmark import Benchmark, Config
from tests.workflow.conftest import TINY, tables_of
from workflow.staleness.copied import restore_order
from workflow.staleness.steps import EVALUATE, GENERATE, PROFILE

STEP_OF = {"reconstruction": EVALUATE, "generation": GENERATE, "efficiency": PROFILE}


def test_a_run_makes_every_result(finished):
    results = finished.folder / "results" / "tiny"
    for name in ("table1", "table2", "table3", "table4", "table5", "ablations", "choices"):
        for ending in ("csv", "md", "html", *(() if name == "choices" else ("tex",))):
            assert (results / "tables" / f"{name}.{ending}").stat().st_size > 0
    for name in (
        "figure2a",
        "figure2b",
        "figure2c",
        "figure3a",
        "figure3b",
        "figure5",
        "latents",
        "reconstruction_samples",
    ):
        assert (results / "figures" / f"{name}.png").stat().st_size > 0
        assert (results / "figures" / f"{name}.pdf").stat().st_size > 0
    assert len(list((results / "records").rglob("*.json"))) == 5 + 1 + 1
    assert (results / "index.html").stat().st_size > 0


def test_a_variant_stands_below_its_base_in_the_table_of_ablations_and_not_in_table_2(finished):
    tables = finished.folder / "results" / "tiny" / "tables"
    with (tables / "ablations.csv").open() as file:
        base, variant = csv.DictReader(file)
    assert (base["Autoencoder"], base["What differs"]) == ("dc-ae-tiny", "base")
    assert (variant["Autoencoder"], variant["What differs"]) == ("dc-ae-tiny-no-residual", "no residual shortcuts")
    assert float(base["Params (M)"]) > 0 and float(variant["rFID, difference to base [random features]"])
    assert "dc-ae-tiny-no-residual" not in (tables / "table2.csv").read_text()


def test_the_model_whose_speed_is_measured_is_the_one_that_is_trained(finished):
    results = finished.folder / "results" / "tiny"
    [trained] = results.glob("diffusion/scenes-tiny-64/*/uvit-tiny-p1/model.safetensors")
    [record] = results.glob("records/efficiency/scenes-tiny-64/*/uvit-tiny-p1.json")
    parameters = sum(tensor.numel() for tensor in load_file(trained).values())
    assert json.loads(record.read_text())["values"]["parameters"]["value"] == parameters


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake().stderr


def test_results_copied_without_their_times_are_made_from_what_they_say(finished, clone, monkeypatch):
    results = clone.folder / "results" / "tiny"
    shutil.copytree(finished.folder / "results" / "tiny", results)
    files = sorted((path for path in results.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime)
    for number, path in enumerate(files):  # the reverse of the order in which they were made
        os.utime(path, (2e9 - 10 * number,) * 2)
    assert set(clone.stale_rules()) <= {"build_tables", "draw_figures", "make_page"}
    weights = results / "autoencoders/dc-ae-tiny/low-resolution-local-refinement/diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    os.utime(weights, (3e9, 3e9))
    monkeypatch.chdir(clone.folder)
    restore_order(Benchmark.load(TINY, Config(Path("config"), repository=False)))
    place = "scenes-tiny-64/dc-ae-tiny"
    for name in (f"latents/{place}/index.json", f"records/reconstruction/{place}.json"):
        assert (results / name).stat().st_mtime < 3e9, "it was made from other weights"


def test_a_changed_entry_makes_its_own_cells_stale_and_no_others(finished):
    finished.edit("config/diffusion/uvit-tiny.yaml", "guidance_scale: 1.5", "guidance_scale: 2.5")
    assert finished.stale_rules() == {"evaluate_generation": 1}


def test_a_changed_phase_makes_its_trainings_stale(finished):
    finished.edit("config/recipes/tiny-one-phase.yaml", "steps: 4", "steps: 5")
    assert finished.stale_rules() == {"train_autoencoder": 1}


def test_latents_on_the_fly_are_not_encoded_before(clone):
    clone.edit("config/recipes/tiny-uvit.yaml", "kind: diffusion", "kind: diffusion\nlatents: on-the-fly")
    plan = clone.snakemake("--dry-run").stdout
    assert "train_denoiser" in plan
    assert "encode_latents" not in plan and "--latents" not in plan


def test_captions_are_embedded_once_for_training_and_once_for_what_samples_are_compared_with(clone):
    clone.edit(TINY, "diffusion: uvit-tiny", "diffusion: pixart-tiny")
    clone.edit("config/recipes/tiny-uvit.yaml", "objective: epsilon", "objective: epsilon-learned-range")
    plan = clone.snakemake("--dry-run", "--printshellcmds").stdout
    assert plan.count("rule encode_captions:") == 1  # samples are compared with training images here, too
    folder = "--captions results/tiny/captions/scenes-tiny-train/pixart-tiny"
    assert sum(folder in line for line in plan.splitlines() if " train denoiser " in line) == 1
    assert sum(folder in line for line in plan.splitlines() if " generate " in line) == 1
    clone.edit(TINY, "dataset: scenes-tiny,", "dataset: scenes-tiny, evaluated_on: scenes,")
    plan = clone.snakemake("--dry-run", "--printshellcmds").stdout
    assert plan.count("rule encode_captions:") == 2
    evaluation = next(line for line in plan.splitlines() if " generate " in line)
    assert "--captions results/tiny/captions/scenes-train/pixart-tiny" in evaluation
    assert "--reference results/tiny/reference/generation/scenes-64.safetensors" in evaluation


def test_a_released_diffusion_model_is_not_trained(clone):
    entry = "config/diffusion/uvit-tiny.yaml"
    clone.edit(entry, "recipe: tiny-uvit", "recipe: tiny-uvit\npretrained: {id: somewhere/uvit}")
    plan = clone.snakemake("--dry-run", "--printshellcmds").stdout
    assert "rule evaluate_generation:" in plan
    assert "rule train_denoiser:" not in plan and "--denoiser" not in plan and "rule encode_latents:" not in plan


def test_a_better_description_makes_nothing_stale(finished):
    finished.edit("config/autoencoders/dc-ae-tiny.yaml", "trains in a second", "trains in two seconds")
    assert finished.stale_rules() == {}


def test_tables_from_records_alone(finished, clone):
    for folder in ("records", "per_image"):
        shutil.copytree(finished.folder / "results/tiny" / folder, clone.folder / "results/tiny" / folder)
    output = clone.snakemake("tables").stderr
    assert "train_" not in output
    rebuilt = tables_of(clone)
    assert rebuilt and rebuilt == tables_of(finished)


def test_records_carry_their_protocol_and_provenance(finished):
    for path in (finished.folder / "results/tiny/records").rglob("*.json"):
        record = json.loads(path.read_text())
        assert record["protocol_fingerprint"]
        assert record["provenance"]["config_digest"]
        assert record["provenance"]["results_version"] == STEP_OF[record["kind"]].version
        assert record["provenance"]["code_digest"]
        assert all(value["n"] > 0 for value in record["values"].values())


OUTSIDE_CODE = '''
import torch
from torch import nn

class Mine(nn.Module):
    """Someone's own autoencoder, f16c8."""

    spatial_compression, latent_channels, latent_scale, latent_shift = 16, 8, None, None

    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, width, 16), nn.ConvTranspose2d(8, 3, width, 16)

    def encode(self, images):
        return self.down(images)

    def decode(self, latents):
        return self.up(latents)

def build(width):
    return Mine(width)
'''

OUTSIDE_ENTRY = """
kind: python
factory: outside_package.model:build
arguments: {width: 16}
spatial_compression: 16
latent_channels: 8
recipe: tiny-one-phase
"""


def test_an_entry_from_outside_the_repository_gets_its_rows(finished, tmp_path):
    package = tmp_path / "elsewhere" / "outside_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model.py").write_text(OUTSIDE_CODE)
    (finished.folder / "config/autoencoders/mine.yaml").write_text(OUTSIDE_ENTRY)
    path = finished.folder / "config/tiny.yaml"
    benchmark = yaml.safe_load(path.read_text())
    benchmark["autoencoders"].append("mine")
    path.write_text(yaml.safe_dump(benchmark))

    output = finished.snakemake(PYTHONPATH=f"{finished.folder}:{package.parent}").stderr
    assert "autoencoder=mine" in output
    assert "autoencoder=dc-ae-tiny" not in output, "Snakemake ran more than the new entry needs"
    for table in ("table1", "table2", "table3"):
        with (finished.folder / f"results/tiny/tables/{table}.csv").open() as file:
            assert any("mine" in row for row in csv.reader(file)), table


def test_wrong_key_stops_before_any_job(clone):
    clone.edit("config/autoencoders/dc-ae-tiny.yaml", "head_dim: 8", "head_dims: 8")
    result = clone.snakemake(check=False)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "dc-ae-tiny.yaml" in text and "head_dims" in text and "allowed fields" in text
    assert not (clone.folder / "results").exists()


def test_folders_may_have_any_name_and_benchmarks_a_dot(clone):
    folder = clone.folder / "Kopie (2) für mich"
    folder.mkdir()
    (clone.folder / TINY).rename(folder / "tiny.v2.yaml")
    reference = "results/tiny.v2/reference/reconstruction/scenes-tiny-64.safetensors"
    clone.snakemake(reference, file=f"{folder.name}/tiny.v2.yaml")
    assert (clone.folder / reference).is_file()


def test_what_was_deleted_comes_back(finished):
    results = finished.folder / "results/tiny"
    cell = "scenes-tiny-64/dc-ae-tiny"
    for name in (
        "records/reconstruction/scenes-tiny-64/blur.json",
        "autoencoders/dc-ae-tiny/low-resolution-full/config.json",
        f"latents/{cell}/index.json",
        f"diffusion/{cell}/uvit-tiny-p1/config.json",
        "reference/generation/scenes-tiny-64.safetensors",
    ):
        (results / name).unlink()
    made = finished.stale_rules()
    assert made["evaluate_reconstruction"] == 1
    assert {"train_autoencoder", "encode_latents", "train_denoiser", "reference_features"} <= set(made)


def test_a_picture_that_is_added_makes_its_features_anew_and_one_that_is_not_mounted_does_not(clone):
    pictures = clone.folder / "pictures"
    for split in ("train", "validation"):
        for number in range(3):
            (pictures / split).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (number, 0, 0)).save(pictures / split / f"{number}.png")
    (clone.folder / "config/datasets/mine.yaml").write_text("kind: folder\npath: pictures\n")
    clone.edit(TINY, "scenes-tiny:", "mine:")
    reference = "results/tiny/reference/reconstruction/mine-64.safetensors"
    clone.snakemake(reference)
    assert clone.stale_rules(reference) == {}
    Image.new("RGB", (64, 64)).save(pictures / "train" / "3.png")
    assert clone.stale_rules(reference) == {}, "a training image"
    pictures.rename(clone.folder / "elsewhere")
    assert clone.stale_rules(reference) == {}, "the results alone"
    (clone.folder / "elsewhere").rename(pictures)
    Image.new("RGB", (64, 64)).save(pictures / "validation" / "3.png")
    assert clone.stale_rules(reference) == {"reference_features": 1}


def test_more_validation_images_make_no_training_stale(finished):
    finished.edit("config/datasets/scenes-tiny.yaml", "validation_images: 16", "validation_images: 20")
    plan = finished.snakemake("--dry-run").stdout
    made = set(re.findall(r"^(?:local)?rule (\w+):", plan, re.M))
    assert made == {"reference_features", "evaluate_reconstruction", "build_tables", "draw_figures", "make_page", "all"}
    assert plan.count("rule reference_features:") == 1, "samples are compared with training images"


def test_the_command_that_export_prints_for_an_untrained_autoencoder_trains_it(clone):
    refused = clone.run("dcae", "export", TINY, "--autoencoder", "dc-ae-tiny", "--output", "exported", check=False)
    assert refused.returncode == 1
    printed = refused.stderr.splitlines()[-1].strip()
    plan = clone.run(*shlex.split(printed), "--dry-run").stdout
    assert plan.count("rule train_autoencoder:") == 2 and "rule encode_latents:" not in plan
