# SPDX-License-Identifier: Apache-2.0
"""The benchmark of released autoencoders, and what a user is told before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dcae.benchmark import Benchmark, Config, ConfigError

PRETRAINED = Path(__file__).parents[2] / "config" / "pretrained.yaml"


@pytest.fixture(scope="module")
def pretrained() -> Benchmark:
    return Benchmark.load(PRETRAINED)


def changed(tmp_path, **fields) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(PRETRAINED.read_text()), **fields}))
    return path


def test_it_measures_every_entry_of_released_weights_and_trains_none(pretrained):
    config = Config()
    entries = [config.entry("autoencoders", name) for name in config.files("autoencoders")]
    released = {entry.name for entry in entries if getattr(entry, "pretrained", None)}
    on_top = {e.name for e in entries if e.kind == "space-to-channel" and e.autoencoder in released}
    # Weights of other entries; these differ in what a diffusion model sees.
    for_diffusion = {name for name in released if name.endswith(("-sampled", "-moments"))} | {"flux-vae-shift-ignored"}
    assert set(pretrained.content.autoencoders) == (released | on_top) - for_diffusion
    assert not any(pretrained.final_training(name) for name in pretrained.all_autoencoders)
    assert set(pretrained.content.controls) == {"identity", "blur", "mean-colour"}


def test_posteriors_are_not_sampled_for_metrics(pretrained):
    entries = [pretrained.autoencoder(name) for name in pretrained.all_autoencoders]
    assert {getattr(entry, "posterior", "mode") for entry in entries} <= {"mode", "moments"}  # encode gives the mode


def test_gated_and_restricted_weights_are_told_before_a_run(pretrained):
    told = "\n".join(pretrained.notices())
    for part in (
        "sd3-vae: gated, accept the licence on the page of stabilityai/stable-diffusion-3-medium-diffusers",
        "hunyuan-image-f32: not licensed in the European Union, the United Kingdom and South Korea",
        "eq-vae: no licence is stated",
        "rae-dinov2-b: takes 256 px alone, not measured at 512 px",
    ):
        assert part in told
    assert "sd-vae-ft-ema" not in told and "identity" not in told


def test_a_diffusion_model_narrower_than_its_tokens_is_told(tmp_path):
    folder = PRETRAINED.parent
    told = [Benchmark.load(folder / f"{name}.yaml").notices() for name in ("demo", "miniature", "paper")]
    assert not [line for lines in told for line in lines if "a token has" in line]
    mine = {
        "extends": "demo",
        "description": "U-ViT of miniature on f64c256",
        "autoencoders": ["dc-ae-f64c256-mini"],
        "studies": dict.fromkeys(("shortcuts", "high-resolution", "gan")),
        "generation": [
            {
                "diffusion": "uvit-mini",
                "dataset": "demo-scenes",
                "resolution": 128,
                "patch_sizes": {64: [1]},
                "tables": [3],
            }
        ],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine))
    (line,) = Benchmark.load(path).notices()
    assert line.startswith("uvit-mini p1 on dc-ae-f64c256-mini: a token has 256 values and the model a width of 160")


def test_an_autoencoder_of_one_resolution_is_measured_there_alone(pretrained):
    cells = {(cell.autoencoder, cell.resolution) for cell in pretrained.cells.reconstruction}
    assert {side for name, side in cells if name == "rae-dinov2-b"} == {256}
    assert {side for name, side in cells if name == "rae-dinov2-b-512"} == {512}
    assert {side for name, side in cells if name == "taesd"} == {256, 512}


def test_one_that_takes_none_of_the_resolutions_is_an_error(tmp_path):
    plan = {"protocol": "dc-ae", "datasets": {"imagenet": {512: None}}}
    path = changed(tmp_path, autoencoders=["rae-dinov2-b", "taesd"], reconstruction=plan)
    with pytest.raises(ConfigError, match=r"reconstruction.datasets: rae-dinov2-b takes \[256\] px alone"):
        Benchmark.load(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resolutions": [100]}, r"resolutions \[100\] are no multiples of spatial_compression 8"),
        ({"latent_std": [1.0] * 4, "latent_scale": 1.0}, "latent_scale and latent_std say the same thing"),
        ({"latent_std": [1.0] * 3}, "latent_std has 3 numbers, latent_channels is 4"),
        ({"latent_scale": 1.0, "conventions": {"latent_statistics": "batch-norm"}}, "the weights give scale and shift"),
        ({"conventions": {"image_range": [1, 0]}}, r"expected the lowest and the highest value, got \[1.0, 0.0\]"),
        ({"conventions": {"frames": 1}}, "conventions.frames: no such field"),
    ],
)
def test_mistakes_in_an_entry_of_released_weights_are_named(fields, message, tmp_path):
    (tmp_path / "autoencoders").mkdir()
    entry = {"kind": "diffusers", "class": "AutoencoderKL", "pretrained": {"id": "owner/name"}}
    entry |= {"spatial_compression": 8, "latent_channels": 4, **fields}
    (tmp_path / "autoencoders" / "mine.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(ConfigError, match=message):
        Config(tmp_path).entry("autoencoders", "mine")
