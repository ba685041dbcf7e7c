# SPDX-License-Identifier: Apache-2.0
"""Cells and trainings that follow from a benchmark file, and the errors before any job starts."""

from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, ConfigError, GenerationCell, ReconstructionCell

ROOT = Path(__file__).parents[2]
FAMILIES = ROOT / "tests" / "benchmark" / "families.yaml"


def changed(tmp_path: Path, **fields) -> Path:
    """The demo's file with some fields replaced, in a folder of its own."""
    content = {**yaml.safe_load(FAMILIES.read_text()), **fields}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def entry_text(kind: str, name: str) -> dict:
    return yaml.safe_load((ROOT / "config" / kind / f"{name}.yaml").read_text())


def test_demo_has_the_cells_of_the_tables():
    cells = Benchmark.load(FAMILIES).cells
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
    names = [*yaml.safe_load(FAMILIES.read_text())["autoencoders"], "new"]
    cells = Benchmark.load(changed(tmp_path, autoencoders=names)).cells
    assert {(cell.dataset, cell.resolution) for cell in cells.reconstruction if cell.autoencoder == "new"} == {
        ("scenes", 64),
        ("scenes", 128),
    }
    assert any(cell.autoencoder == "new" and cell.diffusion == "uvit-demo" for cell in cells.generation)


def test_phases_form_a_chain():
    benchmark = Benchmark.load(FAMILIES)
    last = benchmark.final_training("dc-ae-f64-demo")
    assert last.start.start.start is None
    assert last.start.start.phase == "low-resolution-full"


def test_ablation_starts_from_the_phase_it_shares():
    benchmark = Benchmark.load(FAMILIES)
    start = benchmark.final_training("dc-ae-f64-no-high-resolution-demo").start
    assert start == benchmark.training("dc-ae-f64-demo", "low-resolution-full")


def test_space_to_channel_uses_the_weights_below():
    benchmark = Benchmark.load(FAMILIES)
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
    generation = yaml.safe_load(FAMILIES.read_text())["generation"]
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("generation_images", 7), ("evaluated_on", "photographs"), ("published", {"dataset": "FFHQ", "resolution": 1024})],
)
def test_blocks_that_ask_for_one_cell_in_two_ways_are_refused(tmp_path, field, value):
    plan = yaml.safe_load(FAMILIES.read_text())["generation"][1]
    message = message_of(changed(tmp_path, generation=[plan, {**plan, field: value}]))
    assert f"generation.1.{field}" in message and "another block" in message


def test_autoencoder_without_a_patch_size(tmp_path):
    generation = yaml.safe_load(FAMILIES.read_text())["generation"]
    generation[1]["patch_sizes"] = {8: [4]}
    assert "generation.1.patch_sizes" in message_of(changed(tmp_path, generation=generation))


def test_mistakes_in_a_recipe_name_its_file(tmp_path):
    for kind in ("recipes", "autoencoders"):
        (tmp_path / kind).mkdir()
    recipe = entry_text("recipes", "mini-three-phase")
    recipe["phases"][1]["resolution"] = 96
    (tmp_path / "recipes" / "other-recipe.yaml").write_text(yaml.safe_dump(recipe))
    entry = {**entry_text("autoencoders", "dc-ae-f64-demo"), "recipe": "other-recipe"}
    (tmp_path / "autoencoders" / "other.yaml").write_text(yaml.safe_dump(entry))
    message = message_of(changed(tmp_path, reconstruction_only=["other"]))
    assert "other-recipe.yaml" in message and "phases.1.resolution" in message and "96" in message


# --- further protocols ----------------------------------------------------------------------------------------------


def with_protocols(tmp_path: Path, further: list[str], of: str = "reconstruction", **changes) -> Path:
    """The families with further protocols, one of which is ``other``: its own with these changes."""
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "other.yaml").write_text(yaml.safe_dump({**entry_text("protocols", "random-features"), **changes}))
    if of == "generation":
        return changed(tmp_path, additional_generation_protocols=further)
    reconstruction = yaml.safe_load(FAMILIES.read_text())["reconstruction"]
    return changed(tmp_path, reconstruction={**reconstruction, "additional_protocols": further})


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
def test_additional_protocols_that_do_not_fit_are_errors(tmp_path, of, further, changes, message):
    field = {
        "reconstruction": r"reconstruction\.additional_protocols",
        "generation": "additional_generation_protocols",
    }[of]
    with pytest.raises(ConfigError, match=field) as caught:
        Benchmark.load(with_protocols(tmp_path, further, of, **changes))
    assert message in str(caught.value)


def test_a_benchmark_marks_its_own_choices_by_field_and_block(tmp_path):
    reasons = {
        "seed": "one is enough",
        "reconstruction.datasets.scenes.64": "small",
        "generation.dit-demo on scenes (table 1, 3).patch_sizes": "the least",
        "generation.*.resolution": "as drawn",
    }
    chosen = Benchmark.load(changed(tmp_path, choices=reasons)).content.chosen()
    found = {path: value for path, value, _ in chosen}
    assert found["seed"] == 0 and found["generation.dit-demo on scenes (table 1, 3).patch_sizes"] == {"32": [1]}
    assert found["reconstruction.datasets.scenes.64"] == {"dataset": "ImageNet", "resolution": 256}
    assert found["generation.pixart-demo on scenes (table 5).resolution"] == 128
    with pytest.raises(ConfigError, match=r"mine.yaml:\n.*choices: generation.dit-x.resolution: no such field here"):
        Benchmark.load(changed(tmp_path, choices={"generation.dit-x.resolution": "no"}))
