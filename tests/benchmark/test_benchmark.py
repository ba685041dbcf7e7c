# SPDX-License-Identifier: Apache-2.0
"""Cells, trainings and digests that follow from a benchmark file, and the errors before any job starts."""

import os
from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, ConfigError, GenerationCell, ReconstructionCell, digests

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "config" / "demo.yaml"


def changed(tmp_path: Path, **fields) -> Path:
    """The demo's file with some fields replaced, in a folder of its own."""
    content = {**yaml.safe_load(DEMO.read_text()), **fields}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def entry_text(kind: str, name: str) -> dict:
    return yaml.safe_load((ROOT / "config" / kind / f"{name}.yaml").read_text())


def test_demo_has_the_cells_of_the_tables():
    cells = Benchmark.load(DEMO).cells
    assert ReconstructionCell("scenes", 64, "dc-ae-f64c256-no-residual-demo") in cells.reconstruction
    assert ReconstructionCell("scenes", 128, "identity") in cells.reconstruction
    for autoencoder, diffusion, patch_size in [
        ("sd-vae-f8-demo", "uvit-demo", 2),
        ("sd-vae-f8-demo", "uvit-demo", 4),
        ("dc-ae-f32-demo", "uvit-demo", 1),
        ("dc-ae-f32-demo", "dit-demo", 1),
        ("dc-ae-f64-demo", "uvit-demo", 1),
        ("sd-vae-f8-demo", "pixart-demo", 2),
        ("dc-ae-f32-demo", "pixart-demo", 1),
    ]:
        assert GenerationCell("scenes", 128, autoencoder, diffusion, patch_size) in cells.generation
    for autoencoder, patch_size in [("sd-vae-f8-demo", 4), ("dc-ae-f32-demo", 1)]:
        cell = GenerationCell("photographs", 128, autoencoder, "dit-unconditional-demo", patch_size)
        assert cell in cells.generation
    assert not any(cell.autoencoder == "identity" for cell in cells.generation)


def test_a_name_under_autoencoders_gets_its_row_in_every_table(tmp_path):
    entry = {**entry_text("autoencoders", "dc-ae-f32-demo"), "description": "a new one"}
    (tmp_path / "autoencoders").mkdir()
    (tmp_path / "autoencoders" / "new.yaml").write_text(yaml.safe_dump(entry))
    names = [*yaml.safe_load(DEMO.read_text())["autoencoders"], "new"]
    cells = Benchmark.load(changed(tmp_path, autoencoders=names)).cells
    assert {(cell.dataset, cell.resolution) for cell in cells.reconstruction if cell.autoencoder == "new"} == {
        ("scenes", 64),
        ("scenes", 128),
    }
    assert any(cell.autoencoder == "new" and cell.diffusion == "uvit-demo" for cell in cells.generation)


def test_phases_form_a_chain():
    benchmark = Benchmark.load(DEMO)
    last = benchmark.final_training("dc-ae-f64-demo")
    assert last.start.start.start is None
    assert last.start.start.phase == "low-resolution-full"


def test_ablation_starts_from_the_phase_it_shares():
    benchmark = Benchmark.load(DEMO)
    start = benchmark.final_training("dc-ae-f64-no-high-resolution-demo").start
    assert start == benchmark.training("dc-ae-f64-demo", "low-resolution-full")


def test_space_to_channel_uses_the_weights_below():
    benchmark = Benchmark.load(DEMO)
    below = benchmark.final_training("dc-ae-f8c4-demo")
    assert benchmark.final_training("dc-ae-f8c4-space-to-channel-f64-demo") == below
    assert benchmark.final_training("identity") is None


def message_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        Benchmark.load(path)
    return str(caught.value)


def test_wrong_key(tmp_path):
    message = message_of(changed(tmp_path, autoencoder=["identity"]))
    assert "mine.yaml" in message and "autoencoder" in message and "allowed fields" in message


def test_unknown_autoencoder(tmp_path):
    message = message_of(changed(tmp_path, reconstruction_only=["dc-ae-f46-demo"]))
    assert "reconstruction_only" in message and "did you mean" in message


def test_resolution_that_f_does_not_divide(tmp_path):
    message = message_of(
        changed(
            tmp_path, reconstruction={"protocol": "random-features", "datasets": {"scenes": {96: None}}}, studies={}
        )
    )
    assert "reconstruction.datasets.scenes" in message and "96" in message and "64" in message


def test_patch_size_that_does_not_divide_the_latents(tmp_path):
    generation = yaml.safe_load(DEMO.read_text())["generation"]
    generation[0]["patch_sizes"] = {32: [3]}
    message = message_of(changed(tmp_path, generation=generation))
    assert "generation.0.patch_sizes" in message and "3" in message


def test_name_given_twice(tmp_path):
    assert "identity" in message_of(changed(tmp_path, reconstruction_only=["identity"]))


def test_protocol_of_the_wrong_kind(tmp_path):
    assert "efficiency_protocol" in message_of(changed(tmp_path, efficiency_protocol="random-features"))


def test_protocol_without_batch_sizes_for_a_model(tmp_path):
    message = message_of(changed(tmp_path, efficiency_protocol="paper"))
    assert "efficiency_protocol: protocol paper: training_batch_size has none for" in message


def test_protocol_that_measures_more_than_the_denoiser(tmp_path):
    message = message_of(changed(tmp_path, efficiency_protocol="end-to-end"))
    assert "efficiency_protocol: 'end-to-end' measures end-to-end" in message


def test_entries_in_a_circle(tmp_path):
    (tmp_path / "autoencoders").mkdir()
    for name, other in (("one", "two"), ("two", "one")):
        text = f"kind: space-to-channel\nautoencoder: {other}\nfactor: 1\nspatial_compression: 8\nlatent_channels: 4\n"
        (tmp_path / "autoencoders" / f"{name}.yaml").write_text(text)
    assert "circle" in message_of(changed(tmp_path, reconstruction_only=["one"]))


def test_space_to_channel_with_wrong_shape(tmp_path):
    (tmp_path / "autoencoders").mkdir()
    text = (
        "kind: space-to-channel\nautoencoder: sd-vae-f8-demo\nfactor: 2\nspatial_compression: 32\nlatent_channels: 4\n"
    )
    (tmp_path / "autoencoders" / "one.yaml").write_text(text)
    assert "f16c16" in message_of(changed(tmp_path, reconstruction_only=["one"]))


def all_digests(benchmark: Benchmark) -> dict[str, str]:
    found = {}
    for name in benchmark.all_autoencoders:
        training = benchmark.final_training(name)
        while training:
            found[f"train {training.autoencoder} {training.phase}"] = digests.training_digest(benchmark, training)
            training = training.start
    for cell in benchmark.cells.reconstruction:
        found[f"reconstruct {cell}"] = digests.reconstruction_digest(benchmark, cell)
    for cell in benchmark.cells.generation:
        found[f"train {cell}"] = digests.denoiser_digest(benchmark, cell)
        found[f"generate {cell}"] = digests.generation_digest(benchmark, cell)
        found[f"profile {cell}"] = digests.efficiency_digest(benchmark, cell)
    return found


def test_a_changed_entry_changes_its_own_jobs_and_no_others(tmp_path):
    before = all_digests(Benchmark.load(changed(tmp_path)))
    entry = entry_text("diffusion", "dit-demo")
    (tmp_path / "diffusion").mkdir()
    (tmp_path / "diffusion" / "other-dit.yaml").write_text(yaml.safe_dump({**entry, "guidance_scale": 7.0}))
    generation = yaml.safe_load(DEMO.read_text())["generation"]
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
    recipe["phases"][0] |= {"checkpoint_every": 7, "gradient_checkpointing": True}
    (tmp_path / "recipes" / "other-recipe.yaml").write_text(yaml.safe_dump(recipe))
    entry = {
        **entry_text("autoencoders", "sd-vae-f8-demo"),
        "recipe": "other-recipe",
        "tiling": {"tile": 64, "overlap": 16},
    }
    (tmp_path / "autoencoders").mkdir()
    (tmp_path / "autoencoders" / "other.yaml").write_text(yaml.safe_dump(entry))
    names = [*yaml.safe_load(DEMO.read_text())["autoencoders"], "other"]
    after = all_digests(Benchmark.load(changed(tmp_path, autoencoders=names)))
    assert after["train other single"] == before["train sd-vae-f8-demo single"]


def test_a_changed_diffusion_recipe_makes_stale_what_it_decides(tmp_path):
    plan = {**yaml.safe_load(DEMO.read_text())["generation"][1], "diffusion": "other-dit"}
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
        return digests.denoiser_digest(benchmark, cell), digests.generation_digest(benchmark, cell)

    training, generation = digests_with()
    assert digests_with(checkpoint_every=7, gradient_checkpointing=True) == (training, generation)
    other_training, other_generation = digests_with(label_dropout=0.2)
    assert other_training != training and other_generation == generation
    # Released weights are sampled by it without any training.
    schedule = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    other_training, other_generation = digests_with(noise_schedule=schedule)
    assert other_training != training and other_generation != generation


@pytest.mark.parametrize(("conditioning", "stale"), [("class", True), ("none", False)])
def test_speed_depends_on_the_data_by_the_number_of_their_classes(tmp_path, conditioning, stale):
    entry = {**entry_text("diffusion", "dit-demo"), "conditioning": conditioning, "guidance_scale": 1.0}
    for kind in ("diffusion", "datasets"):
        (tmp_path / kind).mkdir()
    (tmp_path / "diffusion" / "other-dit.yaml").write_text(yaml.safe_dump(entry))
    (tmp_path / "datasets" / "folder.yaml").write_text("kind: folder\npath: pictures\n")
    plan = {**yaml.safe_load(DEMO.read_text())["generation"][1], "diffusion": "other-dit"}
    plans = [plan, {**plan, "dataset": "folder"}]
    benchmark = Benchmark.load(changed(tmp_path, generation=plans))
    of_scenes, of_folder = (
        digests.efficiency_digest(benchmark, cell)
        for cell in benchmark.cells.generation
        if cell.autoencoder == plan["autoencoders"][0]
    )
    assert (of_scenes != of_folder) is stale


def test_a_block_decides_how_many_samples_its_cells_are_of(tmp_path):
    plan = yaml.safe_load(DEMO.read_text())["generation"][1]
    usual = Benchmark.load(changed(tmp_path, generation=[plan]))
    fewer = Benchmark.load(changed(tmp_path, generation=[{**plan, "generation_images": 7}]))
    cell = usual.cells.generation[0]
    assert usual.generation_protocols(cell) == [usual.protocol("generation")]
    assert fewer.generation_protocols(cell)[0].generation_images == 7
    assert digests.generation_digest(usual, cell) != digests.generation_digest(fewer, cell)


@pytest.mark.parametrize(
    ("field", "value"),
    [("generation_images", 7), ("evaluated_on", "photographs"), ("published", {"dataset": "FFHQ", "resolution": 1024})],
)
def test_blocks_that_ask_for_one_cell_in_two_ways_are_refused(tmp_path, field, value):
    plan = yaml.safe_load(DEMO.read_text())["generation"][1]
    message = message_of(changed(tmp_path, generation=[plan, {**plan, field: value}]))
    assert f"generation.1.{field}" in message and "another block" in message


def test_autoencoder_without_a_patch_size(tmp_path):
    generation = yaml.safe_load(DEMO.read_text())["generation"]
    generation[1]["patch_sizes"] = {8: [4]}
    assert "generation.1.patch_sizes" in message_of(changed(tmp_path, generation=generation))


def test_mistakes_in_a_recipe_name_its_file(tmp_path):
    for kind in ("recipes", "autoencoders"):
        (tmp_path / kind).mkdir()
    recipe = entry_text("recipes", "demo-three-phase")
    recipe["phases"][1]["resolution"] = 96
    (tmp_path / "recipes" / "other-recipe.yaml").write_text(yaml.safe_dump(recipe))
    entry = {**entry_text("autoencoders", "dc-ae-f64-demo"), "recipe": "other-recipe"}
    (tmp_path / "autoencoders" / "other.yaml").write_text(yaml.safe_dump(entry))
    message = message_of(changed(tmp_path, reconstruction_only=["other"]))
    assert "other-recipe.yaml" in message and "phases.1.resolution" in message and "96" in message


# --- further protocols ----------------------------------------------------------------------------------------------


def with_protocols(tmp_path: Path, further: list[str], of: str = "reconstruction", **changes) -> Path:
    """The demo with further protocols, one of which is ``other``: its own with these changes."""
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "other.yaml").write_text(yaml.safe_dump({**entry_text("protocols", "random-features"), **changes}))
    if of == "generation":
        return changed(tmp_path, further_generation_protocols=further)
    reconstruction = yaml.safe_load(DEMO.read_text())["reconstruction"]
    return changed(tmp_path, reconstruction={**reconstruction, "further_protocols": further})


@pytest.mark.parametrize("kind", ["reconstruction", "generation"])
def test_further_protocols_decide_the_digests_of_their_kind_alone(tmp_path, kind):
    benchmark = Benchmark.load(with_protocols(tmp_path, ["other"], kind, inception_resize="clean"))
    plain = Benchmark.load(DEMO)
    cell, generated = plain.cells.reconstruction[0], plain.cells.generation[0]
    found = {
        "reconstruction": [digests.reconstruction_digest(each, cell) for each in (benchmark, plain)],
        "generation": [digests.generation_digest(each, generated) for each in (benchmark, plain)],
    }
    for purpose, (one, other) in found.items():
        assert [each.name for each in benchmark.further_protocols(purpose)] == ["other"] * (purpose == kind)
        references = [digests.reference_digest(each, "scenes", 64, purpose) for each in (benchmark, plain)]
        assert (one != other) == (references[0] != references[1]) == (purpose == kind)


@pytest.mark.parametrize(
    ("of", "further", "changes", "message"),
    [
        (
            "reconstruction",
            ["other"],
            {"reconstruction_images": 7},
            "reconstruction_images 7, 'random-features' has 32",
        ),
        ("reconstruction", ["random-features"], {}, "the main protocol already"),
        ("reconstruction", ["other", "other"], {}, "named more than once"),
        ("reconstruction", ["demo-efficiency"], {}, "kind efficiency"),
        ("reconstruction", ["no-such"], {}, "no entry 'no-such'"),
        ("generation", ["other"], {"generation_images": 7}, "generation_images 7, 'random-features' has 16"),
        ("generation", ["other"], {"generation_reference": "validation"}, "one pass has one set of images"),
        ("generation", ["other"], {"generation_reference_images": 7}, "generation_reference_images 7"),
        ("generation", ["random-features"], {}, "the main protocol already"),
        ("generation", ["demo-efficiency"], {}, "kind efficiency"),
    ],
)
def test_further_protocols_that_do_not_fit_are_errors(tmp_path, of, further, changes, message):
    field = {"reconstruction": r"reconstruction\.further_protocols", "generation": "further_generation_protocols"}[of]
    with pytest.raises(ConfigError, match=field) as caught:
        Benchmark.load(with_protocols(tmp_path, further, of, **changes))
    assert message in str(caught.value)


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
    names = [*yaml.safe_load(DEMO.read_text())["autoencoders"], "mine", "above"]
    benchmark = Benchmark.load(changed(tmp_path, autoencoders=names))

    def of_mine() -> list[str]:
        cells = [ReconstructionCell("scenes", 64, name) for name in ("mine", "above", "identity")]
        return [digests.reconstruction_digest(benchmark, cell) for cell in cells]

    missing = of_mine()
    checkpoint.write_bytes(b"first")
    first = of_mine()
    assert digests.files_of(benchmark, "above") == [Path("checkpoints/final.safetensors")]
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
    names = [*yaml.safe_load(DEMO.read_text())["autoencoders"], "my-kl"]

    def digest_with(content: bytes, **pretrained) -> str:
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(content)
        changed_entry = {**entry, "pretrained": {**entry["pretrained"], **pretrained}}
        (tmp_path / "autoencoders" / "my-kl.yaml").write_text(yaml.safe_dump(changed_entry))
        benchmark = Benchmark.load(changed(tmp_path, autoencoders=names))
        return digests.autoencoder_digest(benchmark, "my-kl")

    assert digest_with(b"first") != digest_with(b"second")
    pinned = {"sha256": "0" * 64}  # another file is refused when it is loaded
    assert digest_with(b"first", **pinned) == digest_with(b"second", **pinned)
