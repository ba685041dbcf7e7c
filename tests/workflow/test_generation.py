# SPDX-License-Identifier: Apache-2.0
"""Latents, captions and samples by hand: released weights from end to end, processes that share, and bad input."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file

import evaluation.quality.generation
from dcae.benchmark import Benchmark, GenerationCell
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.released_names import U_VIT_NAMES
from evaluation.quality.sample_set import write_sample_set
from workflow import cli
from workflow.commands.generate import image_source, measured_remarks
from workflow.staleness import configuration

IMAGES = 6
SIDE, CHANNELS = 16, 4  # latents of 64 px at f4
VAE = {
    "block_out_channels": [8, 8, 8], "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3, "latent_channels": CHANNELS, "layers_per_block": 1,
    "norm_num_groups": 4,
}  # fmt: skip
ENTRIES = {
    "autoencoders/tiny-vae": {
        "kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 4, "latent_channels": CHANNELS,
        "latent_scale": 0.5, "pretrained": {"id": "vae"}, "conventions": {"latent_statistics": "entry"},
    },
    "datasets/few-scenes": {"kind": "scenes", "train_images": 8, "validation_images": 4},
    "datasets/plain-folder": {"kind": "folder", "path": "pictures"},
    "diffusion/released-uvit": {
        "kind": "u-vit", "depth": 2, "width": 32, "heads": 2, "recipe": "uvit", "pretrained": {"id": "uvit"},
        "sampler": "dpm-solver++", "sampling_steps": 3, "guidance_scale": 1.5,
    },
    "diffusion/trained-uvit": {
        "kind": "u-vit", "depth": 2, "width": 32, "heads": 2, "recipe": "demo-uvit", "sampler": "dpm-solver++",
        "sampling_steps": 3, "guidance_scale": 1.5,
    },
    "protocols/few-images": {
        "kind": "quality", "inception": {"network": "inception-v3", "weights": "random"},
        "inception_resize": "bilinear", "lpips": {"network": "alex", "weights": "random"},
        "reconstruction_images": 4, "generation_images": IMAGES, "generation_reference": "train",
        "generation_reference_images": 8,
    },
    "protocols/few-images-clean": {"extends": "few-images", "inception_resize": "clean"},
    "mine": {
        "description": "released weights", "additional_generation_protocols": ["few-images-clean"],
        "autoencoders": ["tiny-vae", "same-vae"],
        "reconstruction": {"protocol": "few-images", "datasets": {"few-scenes": {64: None}}},
        "generation_protocol": "few-images", "efficiency_protocol": "demo-efficiency",
        "generation": [
            {"diffusion": name, "dataset": "few-scenes", "resolution": 64, "patch_sizes": {4: [4]}, "tables": [3]}
            for name in ("released-uvit", "trained-uvit", "pixart-demo")
        ],
    },
}  # fmt: skip
ENTRIES["autoencoders/same-vae"] = ENTRIES["autoencoders/tiny-vae"]
CELL = ("--autoencoder", "tiny-vae", "--dataset", "few-scenes", "--resolution", "64")


def write_config(folder: Path, **changes: dict) -> None:
    for name, content in (ENTRIES | changes).items():
        path = folder / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def release(folder: Path) -> None:
    """Random weights as their authors lay them out: a folder of diffusers', and U-ViT beside an autoencoder's."""
    torch.manual_seed(0)
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    benchmark = Benchmark.load(folder / "config" / "mine.yaml")
    denoiser = build_denoiser(benchmark.diffusion("released-uvit"), CHANNELS, SIDE, 4, classes=12)
    tensors = {"autoencoder.encoder.project_in.conv.weight": torch.zeros(3)}
    for name, value in denoiser.state_dict().items():
        here = next((start for start in U_VIT_NAMES if name.startswith(start)), None)
        there = name if here is None else U_VIT_NAMES[here] + name.removeprefix(here)
        tensors[f"diffusion_model.{there}"] = 0.2 * torch.randn_like(value)
    (folder / "uvit").mkdir()
    save_file(tensors, folder / "uvit" / "model.safetensors")


def dcae(*arguments: str) -> int:
    """Exit status of a sub-command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["dcae", *map(str, arguments)])
        cli.main()
    return ended.value.code or 0


def generate(*options: str, diffusion: str = "released-uvit", to: str = "out") -> int:
    return dcae(
        "generate", "config/mine.yaml", "--diffusion", diffusion, "--patch-size", "4", *CELL,
        "--reference", "reference.safetensors", "--features", f"{to}/features", "--record", f"{to}/record.json",
        "--images", f"{to}/images.png", *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def _released(tmp_path_factory) -> Path:
    """Entries, released weights, the features of real images, and the samples of one process."""
    folder = tmp_path_factory.mktemp("released")
    write_config(folder)
    release(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert dcae(
            "reference", "config/mine.yaml", "--purpose", "generation", "--dataset", "few-scenes",
            "--resolution", "64", "--output", "reference.safetensors",
        ) == 0  # fmt: skip
        assert generate("--all-images", "out/all") == 0
        assert dcae("encode", "config/mine.yaml", *CELL, "--output", "latents") == 0
    return folder


@pytest.fixture
def released(_released, tmp_path, monkeypatch) -> Path:
    """A copy of the folder, which is where commands run."""
    shutil.copytree(_released, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


def features(folder: Path, setting: str) -> torch.Tensor:
    shards = [load_file(path) for path in sorted((folder / setting).glob("shard-*"))]
    name = next(each for each in shards[0] if each.endswith("bilinear"))
    return torch.cat([shard[name] for shard in shards])


def test_released_weights_are_measured_from_end_to_end(released):
    record = json.loads((released / "out/record.json").read_text())
    assert record["number_class"] == "re-evaluated"
    assert record["cell"]["diffusion"] == "released-uvit"
    assert all(record["values"][f"fid_{setting}_guidance"]["n"] == IMAGES for setting in ("without", "with"))
    further = record["further"]["few-images-clean"]
    assert further["values"].keys() == record["values"].keys()
    assert further["values"]["fid_with_guidance"] != record["values"]["fid_with_guidance"]
    assert further["protocol"]["sampler"] == "dpm-solver++" and further["protocol"]["inception_resize"] == "clean"
    sampling = {name: record["protocol"][name] for name in ("sampler", "sampling_steps", "guided_channels")}
    assert sampling == {"sampler": "dpm-solver++", "sampling_steps": 3, "guided_channels": "all"}
    assert (released / "out/images.png").stat().st_size > 0


def test_a_record_knows_the_files_of_released_weights_and_the_commit_they_came_from(released):
    """As ``hf download --local-dir`` leaves them."""
    record = json.loads((released / "out/record.json").read_text())
    weights = {"uvit/model.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    assert weights <= set(record["provenance"]["inputs"]) and record["provenance"]["hub_commits"] == {}
    note = released / "vae/.cache/huggingface/download/diffusion_pytorch_model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    content = record["provenance"]["inputs"]["vae/diffusion_pytorch_model.safetensors"]
    note.write_text(f"{'a' * 40}\n{content}\n1.0\n")
    assert generate(to="again") == 0
    found = json.loads((released / "again/record.json").read_text())["provenance"]["hub_commits"]
    assert found == {"vae/diffusion_pytorch_model.safetensors": "a" * 40}


def test_samples_of_other_released_weights_are_made_anew(released):
    model = AutoencoderKL.from_pretrained("vae")
    with torch.no_grad():
        model.decoder.conv_out.bias.add_(0.5)
    model.save_pretrained("vae")
    before = features(Path("out/features"), "without_guidance")
    assert generate() == 0
    assert not torch.equal(features(Path("out/features"), "without_guidance"), before)


def test_all_images_are_what_was_measured(released):
    for setting in ("without_guidance", "with_guidance"):
        files = sorted((released / "out/all" / setting).iterdir())
        assert [file.name for file in files] == [f"{index:06d}.png" for index in range(IMAGES)]
        pixels = np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)
        first = load_file(released / "out/features" / setting / "first-samples.safetensors")["images"]
        assert np.array_equal(pixels, first.numpy())
    assert not np.array_equal(*(np.asarray(Image.open(f"out/all/{each}/000000.png"))
                                for each in ("without_guidance", "with_guidance")))  # fmt: skip


def test_two_processes_write_the_record_of_one(released, monkeypatch, capsys):
    """As torchrun or srun number them, one after the other."""
    monkeypatch.setattr(evaluation.quality.generation, "write_sample_set", partial(write_sample_set, shard_size=4))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert generate(to="shared") == 0
    assert "process 2/2 has done its share" in capsys.readouterr().out
    assert not (released / "shared/record.json").exists()
    monkeypatch.setenv("RANK", "0")
    assert generate(to="shared") == 0
    alone, shared = (json.loads((released / to / "record.json").read_text()) for to in ("out", "shared"))
    assert shared["values"].keys() == alone["values"].keys()
    for setting in ("without_guidance", "with_guidance"):
        ours, theirs = (features(Path(to) / "features", setting) for to in ("out", "shared"))
        # Batches of other sizes round otherwise, so that an 8-bit value may flip.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05 * float(ours.std()))
        fid = f"fid_{setting}"
        assert shared["values"][fid]["value"] == pytest.approx(alone["values"][fid]["value"], rel=1e-2)


# --- bad input ---


def train(*options: str, diffusion: str = "trained-uvit", cell: tuple[str, ...] = CELL) -> int:
    return dcae("train", "denoiser", "config/mine.yaml", "--diffusion", diffusion, "--patch-size", "4", *cell,
                "--output", "denoiser", "--state", "denoiser.state", *options)  # fmt: skip


def refusal(capsys, status: int) -> str:
    """What a refused command says; it began nothing and shows no traceback."""
    assert status == cli.EXIT_ERROR
    assert not Path("denoiser").exists() and not list(Path().glob("denoiser.state/*/checkpoint*"))
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


def test_latents_of_another_autoencoder_are_refused_naming_both(released, capsys):
    cell = ("--autoencoder", "same-vae", *CELL[2:])
    error = refusal(capsys, train("--latents", "latents", cell=cell))
    assert "latents: these latents have another identity" in error
    assert "autoencoder 'tiny-vae', expected 'same-vae'" in error


def test_latents_of_another_resolution_are_refused_naming_both(released, capsys):
    error = refusal(capsys, train("--latents", "latents", cell=(*CELL[:4], "--resolution", "32")))
    assert "resolution '64', expected '32'" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_scale": 0.25}, "latent_scale '0.5', expected '0.25'"),
        ({"latent_shift": [0.1, 0.2, 0.3, 0.4]}, "latent_shift 'as released', expected '[0.1, 0.2, 0.3, 0.4]'"),
        ({"posterior": "moments"}, "posterior 'mode', expected 'moments'"),
    ],
)
def test_latents_of_another_scaling_are_refused_naming_both(released, capsys, change, message):
    write_config(released, **{"autoencoders/tiny-vae": ENTRIES["autoencoders/tiny-vae"] | change})
    assert message in refusal(capsys, train("--latents", "latents"))


def test_latents_of_another_results_version_are_refused_naming_both(released, capsys, monkeypatch):
    read = configuration.read_version
    raised = lambda module, constant: 7 if constant == "RESULTS_VERSION" else read(module, constant)  # noqa: E731
    monkeypatch.setattr(configuration, "read_version", raised)
    error = refusal(capsys, train("--latents", "latents"))
    assert "have another identity: results_version '2'" in error and "expected '7'" in error


def test_a_patch_size_that_does_not_divide_the_latents_is_refused_naming_both(released, capsys):
    error = refusal(capsys, train("--latents", "latents", "--patch-size", "3"))
    assert "patch_size (3) must divide the latent size (16 x 16)" in error


def test_a_data_set_without_captions_is_refused_naming_it(released, capsys):
    (released / "pictures/train").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(released / "pictures/train/one.png")
    which = ("--diffusion", "pixart-demo", "--dataset", "plain-folder", "--split", "train", "--output", "captions")
    error = refusal(capsys, dcae("captions", "config/mine.yaml", *which))
    assert "dataset plain-folder: 1 of 1 images have no caption, image 0 first" in error


def test_captions_and_conditioning_must_go_together(released, capsys):
    takes_none = "conditioning is class, so it takes no captions"
    assert takes_none in refusal(capsys, train("--latents", "latents", "--captions", "captions"))
    which = ("--diffusion", "trained-uvit", "--dataset", "few-scenes", "--split", "train", "--output", "captions")
    assert takes_none in refusal(capsys, dcae("captions", "config/mine.yaml", *which))
    missing = "pixart-demo: conditioning is caption, but captions are missing: embed them with `dcae captions`"
    assert missing in refusal(capsys, train("--latents", "latents", diffusion="pixart-demo"))
    assert "conditioning is class, so leave --captions out" in refusal(capsys, generate("--captions", "captions"))
    error = refusal(capsys, generate("--denoiser", "x", diffusion="pixart-demo"))
    assert "conditioning is caption, so give --captions, from dcae captions" in error


def test_released_and_trained_weights_are_not_confused(released, capsys):
    assert "so leave --denoiser out" in refusal(capsys, generate("--denoiser", "somewhere"))
    assert "give --denoiser, from dcae train denoiser" in refusal(capsys, generate(diffusion="trained-uvit"))


def test_released_weights_of_another_shape_are_refused_naming_the_field(released, capsys):
    other = {"diffusion/released-uvit": ENTRIES["diffusion/released-uvit"] | {"width": 64}}
    write_config(released, **other)
    error = refusal(capsys, generate())
    assert "diffusion_model.pos_embed is [1, 18, 32], expected [1, 18, 64]" in error


@pytest.mark.parametrize("latents", ["cached", "on-the-fly"])
def test_a_measured_scale_is_kept_with_the_latents_and_with_the_denoiser(released, latents, monkeypatch):
    """Measured again, on another device or with another library, it could differ in its last digit."""
    without = {name: value for name, value in ENTRIES["autoencoders/tiny-vae"].items() if name != "conventions"}
    write_config(
        released,
        **{
            "autoencoders/tiny-vae": without | {"latent_scale": "measured"},
            "recipes/two-steps": {"extends": "demo-uvit", "steps": 2, "latents": latents, "ema": None},
            "diffusion/trained-uvit": ENTRIES["diffusion/trained-uvit"] | {"recipe": "two-steps"},
        },
    )
    assert dcae("encode", "config/mine.yaml", *CELL, "--output", "measured") == 0
    scale = json.loads(Path("measured/index.json").read_text())["latent_scale"]
    rows = load_file(next(Path("measured").glob("*.safetensors")))["latents"]
    assert scale == pytest.approx(1 / rows.square().mean().sqrt().item(), rel=1e-3)
    folder = ("--latents", "measured") if latents == "cached" else ()
    assert train(*folder) == 0
    monkeypatch.setattr("dcae.diffusion.latents.scale.measured_scale", lambda *_: pytest.fail("measured again"))
    benchmark = Benchmark.load("config/mine.yaml")
    cell = benchmark.resolve(GenerationCell("few-scenes", 64, "tiny-vae", "trained-uvit", 4))
    source = image_source(cell, benchmark.config, Path("denoiser"), None, None, 12, "cpu")
    assert source.autoencoder.latent_scale == scale
    assert measured_remarks(cell, scale) == [f"latent_scale {scale:g} was measured on training images of few-scenes"]
