# SPDX-License-Identifier: Apache-2.0
"""A changed entry makes its own results stale, and no others."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell
from tests.benchmark.test_benchmark import FAMILIES, changed, entry_text, with_protocols
from workflow.staleness import configuration


def all_digests(benchmark: Benchmark) -> dict[str, str]:
    found = {}
    for name in benchmark.all_autoencoders:
        training = benchmark.final_training(name)
        while training:
            found[f"train {training.autoencoder} {training.phase}"] = configuration.training(training)
            training = training.start
    for cell in benchmark.cells.reconstruction:
        found[f"reconstruct {cell}"] = configuration.reconstruction(benchmark.resolve(cell))
    for cell in benchmark.cells.generation:
        found[f"train {cell}"] = configuration.denoiser(benchmark.resolve(cell))
        found[f"generate {cell}"] = configuration.generation(benchmark.resolve(cell))
        found[f"profile {cell}"] = configuration.efficiency(benchmark.resolve(cell))
    return found


def test_a_changed_entry_changes_its_own_jobs_and_no_others(tmp_path):
    before = all_digests(Benchmark.load(changed(tmp_path)))
    entry = entry_text("diffusion", "dit-demo")
    (tmp_path / "diffusion").mkdir()
    (tmp_path / "diffusion" / "other-dit.yaml").write_text(yaml.safe_dump({**entry, "guidance_scale": 7.0}))
    generation = yaml.safe_load(FAMILIES.read_text())["generation"]
    generation[1]["diffusion"] = "other-dit"
    after = all_digests(Benchmark.load(changed(tmp_path, generation=generation)))
    renamed = {key.replace("other-dit", "dit-demo"): value for key, value in after.items()}
    stale = {key for key in before if before[key] != renamed[key]}
    # The guidance scale decides how samples are drawn, not how the model is trained or how fast it is.
    assert stale and all(key.startswith("generate") and "dit-demo" in key for key in stale)


def test_what_leaves_the_weights_as_they_are_makes_no_training_stale(tmp_path):
    before = all_digests(Benchmark.load(changed(tmp_path)))
    (tmp_path / "recipes").mkdir()
    recipe = entry_text("recipes", "demo-single-phase")
    recipe["phases"]["single"] |= {"checkpoint_every": 7, "gradient_checkpointing": True}
    (tmp_path / "recipes" / "other-recipe.yaml").write_text(yaml.safe_dump(recipe))
    entry = {
        **entry_text("autoencoders", "sd-vae-f8-demo"),
        "recipe": "other-recipe",
        "tiling": {"tile": 64, "overlap": 16},
    }
    (tmp_path / "autoencoders").mkdir()
    (tmp_path / "autoencoders" / "other.yaml").write_text(yaml.safe_dump(entry))
    names = [*yaml.safe_load(FAMILIES.read_text())["autoencoders"], "other"]
    after = all_digests(Benchmark.load(changed(tmp_path, autoencoders=names)))
    assert after["train other single"] == before["train sd-vae-f8-demo single"]


def test_a_changed_diffusion_recipe_makes_stale_what_it_decides(tmp_path):
    plan = {**yaml.safe_load(FAMILIES.read_text())["generation"][1], "diffusion": "other-dit"}
    plan["autoencoders"] = ["dc-ae-f32-demo"]
    little = {"generation": [plan], "autoencoders": plan["autoencoders"], "controls": [], "studies": {}}
    cell = GenerationCell("scenes", plan["resolution"], "dc-ae-f32-demo", "other-dit", 1)
    for kind in ("recipes", "diffusion"):
        (tmp_path / kind).mkdir()
    entry = {**entry_text("diffusion", "dit-demo"), "recipe": "demo-other"}
    (tmp_path / "diffusion" / "other-dit.yaml").write_text(yaml.safe_dump(entry))

    def digests_with(**fields) -> tuple[str, str]:
        recipe = {**entry_text("recipes", "demo-dit"), **fields}
        (tmp_path / "recipes" / "demo-other.yaml").write_text(yaml.safe_dump(recipe))
        benchmark = Benchmark.load(changed(tmp_path, **little))
        return configuration.denoiser(benchmark.resolve(cell)), configuration.generation(benchmark.resolve(cell))

    training, generation = digests_with()
    assert digests_with(checkpoint_every=7, gradient_checkpointing=True) == (training, generation)
    other_training, other_generation = digests_with(label_dropout=0.2)
    assert other_training != training and other_generation == generation
    # Released weights are sampled by it without any training.
    schedule = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.03}
    other_training, other_generation = digests_with(noise_schedule=schedule)
    assert other_training != training and other_generation != generation


@pytest.mark.parametrize(("conditioning", "stale"), [("class", True), ("none", False)])
def test_speed_depends_on_the_data_by_the_number_of_their_classes(tmp_path, conditioning, stale):
    entry = {**entry_text("diffusion", "dit-demo"), "conditioning": conditioning, "guidance_scale": 1.0}
    for kind in ("diffusion", "datasets"):
        (tmp_path / kind).mkdir()
    (tmp_path / "diffusion" / "other-dit.yaml").write_text(yaml.safe_dump(entry))
    (tmp_path / "datasets" / "folder.yaml").write_text("kind: folder\npath: pictures\n")
    plan = {**yaml.safe_load(FAMILIES.read_text())["generation"][1], "diffusion": "other-dit"}
    plans = [plan, {**plan, "dataset": "folder"}]
    benchmark = Benchmark.load(changed(tmp_path, generation=plans))
    of_scenes, of_folder = (
        configuration.efficiency(benchmark.resolve(cell))
        for cell in benchmark.cells.generation
        if cell.autoencoder == plan["autoencoders"][0]
    )
    assert (of_scenes != of_folder) is stale


def test_a_block_decides_how_many_samples_its_cells_are_of(tmp_path):
    plan = yaml.safe_load(FAMILIES.read_text())["generation"][1]
    usual = Benchmark.load(changed(tmp_path, generation=[plan]))
    fewer = Benchmark.load(changed(tmp_path, generation=[{**plan, "generation_images": 7}]))
    cell = usual.cells.generation[0]
    assert usual.generation_protocols(cell) == [usual.protocol("generation")]
    assert fewer.generation_protocols(cell)[0].generation_images == 7
    assert configuration.generation(usual.resolve(cell)) != configuration.generation(fewer.resolve(cell))


@pytest.mark.parametrize("kind", ["reconstruction", "generation"])
def test_additional_protocols_decide_the_digests_of_their_kind_alone(tmp_path, kind):
    benchmark = Benchmark.load(with_protocols(tmp_path, ["other"], kind, inception_resize="clean"))
    plain = Benchmark.load(FAMILIES)
    cell, generated = plain.cells.reconstruction[0], plain.cells.generation[0]
    found = {
        "reconstruction": [configuration.reconstruction(each.resolve(cell)) for each in (benchmark, plain)],
        "generation": [configuration.generation(each.resolve(generated)) for each in (benchmark, plain)],
    }
    for purpose, (one, other) in found.items():
        assert [each.name for each in benchmark.additional_protocols(purpose)] == ["other"] * (purpose == kind)
        reference = [
            configuration.reference(configuration.reference_cell(each, purpose, "scenes", 64))
            for each in (benchmark, plain)
        ]
        assert (one != other) == (reference[0] != reference[1]) == (purpose == kind)


def test_a_file_that_an_entry_names_counts_by_its_content(tmp_path, monkeypatch):
    """A user trains on, and overwrites the checkpoint: what was measured of the old one is stale."""
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoints" / "final.safetensors"
    checkpoint.parent.mkdir()
    arguments = {"checkpoint": "checkpoints/final.safetensors", "more": [{"width": 8, "name": "x" * 5000}]}
    entry = {
        "kind": "python", "description": "mine", "factory": "mine:build", "arguments": arguments,
        "spatial_compression": 32, "latent_channels": 32, "latent_scale": 1.0,
    }  # fmt: skip
    above = {
        "kind": "space-to-channel", "description": "mine and more", "autoencoder": "mine", "factor": 2,
        "spatial_compression": 64, "latent_channels": 128,
    }  # fmt: skip
    (tmp_path / "autoencoders").mkdir()
    for name, content in (("mine", entry), ("above", above)):
        (tmp_path / "autoencoders" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    names = [*yaml.safe_load(FAMILIES.read_text())["autoencoders"], "mine", "above"]
    benchmark = Benchmark.load(changed(tmp_path, autoencoders=names))

    def of_mine() -> list[str]:
        cells = [ReconstructionCell("scenes", 64, name) for name in ("mine", "above", "identity")]
        return [configuration.reconstruction(benchmark.resolve(cell)) for cell in cells]

    missing = of_mine()
    checkpoint.write_bytes(b"first")
    first = of_mine()
    assert benchmark.resolve_autoencoder("above").files == [Path("checkpoints/final.safetensors")]
    checkpoint.write_bytes(b"second")
    second = of_mine()
    for before, after in ((missing, first), (first, second)):
        assert before[0] != after[0] and before[1] != after[1] and before[2] == after[2]
    os.utime(checkpoint, (1, 1))
    assert of_mine() == second  # the content, not the date


def test_a_folder_of_weights_without_a_pinned_hash_counts_by_its_content(tmp_path):
    folder = tmp_path / "my-kl" / "vae"
    folder.mkdir(parents=True)
    entry = {
        **entry_text("autoencoders", "sd-vae-ft-ema"),
        "pretrained": {"id": str(folder.parent), "subfolder": "vae"},
    }
    (tmp_path / "autoencoders").mkdir()
    names = [*yaml.safe_load(FAMILIES.read_text())["autoencoders"], "my-kl"]

    def digest_with(content: bytes, **pretrained) -> str:
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(content)
        changed_entry = {**entry, "pretrained": {**entry["pretrained"], **pretrained}}
        (tmp_path / "autoencoders" / "my-kl.yaml").write_text(yaml.safe_dump(changed_entry))
        benchmark = Benchmark.load(changed(tmp_path, autoencoders=names))
        return configuration.autoencoder(benchmark.resolve_autoencoder("my-kl"))

    assert digest_with(b"first") != digest_with(b"second")
    pinned = {"sha256": "0" * 64}  # another file is refused when it is loaded
    assert digest_with(b"first", **pinned) == digest_with(b"second", **pinned)


def test_another_version_of_scenes_changes_what_is_made_of_scenes_alone(monkeypatch):
    """Images that this project draws change with their code, which their own version tells."""
    benchmark = Benchmark.load(FAMILIES)
    cells = [benchmark.resolve(cell) for cell in benchmark.cells.generation]

    def digests() -> dict[str, list[str]]:
        return {
            kind: [configuration.latents(cell) for cell in cells if cell.dataset.kind == kind]
            for kind in ("scenes", "photographs")
        }

    before = digests()
    versions = {"dcae/data/scenes/dataset.py": 99}
    read = configuration.read_version
    monkeypatch.setattr(configuration, "read_version", lambda file, name: versions.get(file) or read(file, name))
    after = digests()
    assert before["photographs"] and after["photographs"] == before["photographs"]
    assert all(one != other for one, other in zip(before["scenes"], after["scenes"], strict=True))


@pytest.mark.parametrize(
    ("field", "value", "stale"),
    [
        ("reconstruction_images", 7, {"reconstruction"}),
        ("generation_reference_images", 7, {"generation"}),
        ("generation_images", 7, set()),
        ("clip", None, set()),
        ("inception_resize", "clean", {"reconstruction", "generation"}),
    ],
)
def test_features_of_real_images_depend_on_the_fields_of_their_purpose(field, value, stale):
    benchmark = Benchmark.load(FAMILIES)
    changed_purposes = set()
    for purpose in ("reconstruction", "generation"):
        cell = configuration.reference_cell(benchmark, purpose, "scenes", 64)
        other = replace(cell, protocols=[each.model_copy(update={field: value}) for each in cell.protocols])
        if configuration.reference(cell) != configuration.reference(other):
            changed_purposes.add(purpose)
    assert changed_purposes == stale
