# SPDX-License-Identifier: Apache-2.0
"""What was made of some images is refused for others: latents and captions by hand, and images that are left out."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image

from workflow import cli

ENTRIES = {
    "autoencoders/tiny-vae": {
        "kind": "diffusers", "class": "AutoencoderKL", "spatial_compression": 4, "latent_channels": 4,
        "latent_scale": 0.5, "pretrained": {"id": "vae"}, "conventions": {"latent_statistics": "entry"},
    },
    "datasets/pictures": {"kind": "folder", "path": "pictures", "smaller_images": "discard"},
    "diffusion/uvit": {
        "kind": "u-vit", "depth": 2, "width": 32, "heads": 2, "recipe": "two-steps", "sampler": "dpm-solver++",
        "sampling_steps": 2, "guidance_scale": 1,
    },
    "diffusion/pixart": {"extends": "pixart-demo", "recipe": "two-steps-on-captions", "sampling_steps": 2},
    "recipes/two-steps": {"extends": "demo-uvit", "steps": 2, "batch_size": 2},
    "recipes/two-steps-on-captions": {"extends": "demo-pixart", "steps": 2, "batch_size": 2},
    "protocols/few-images": {
        "kind": "quality", "inception": {"network": "inception-v3", "weights": "random"},
        "inception_resize": "bilinear", "lpips": {"network": "alex", "weights": "random"},
        "reconstruction_images": 1, "generation_images": 3, "generation_reference": "train",
        "generation_reference_images": 3,
    },
    "mine": {
        "description": "pictures in a folder", "autoencoders": ["tiny-vae"],
        "reconstruction": {"protocol": "few-images", "datasets": {"pictures": {64: None}}},
        "generation_protocol": "few-images", "efficiency_protocol": "demo-efficiency",
        "generation": [
            {"diffusion": name, "dataset": "pictures", "resolution": 64, "patch_sizes": {4: [4]}, "tables": [table]}
            for name, table in (("uvit", 3), ("pixart", 4))
        ],
    },
}  # fmt: skip
PLACE = ("--dataset", "pictures")
CELL = ("--autoencoder", "tiny-vae", *PLACE, "--resolution", "64")


def picture(name: str, side: int, colour: str, caption: str) -> None:
    path = Path("pictures") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)
    path.with_suffix(".txt").write_text(caption)


def dcae(*arguments: str) -> int:
    """Exit status of a sub-command on the benchmark."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["dcae", *arguments])
        cli.main()
    return ended.value.code or 0


def encode() -> int:
    return dcae("encode", "config/mine.yaml", *CELL, "--output", "latents")


def captions() -> int:
    return dcae(
        "captions", "config/mine.yaml", "--diffusion", "pixart", *PLACE, "--split", "train", "--output", "texts"
    )


def train(diffusion: str = "uvit", *options: str) -> int:
    return dcae("train", "denoiser", "config/mine.yaml", "--diffusion", diffusion, "--patch-size", "4", *CELL,
                "--latents", "latents", "--output", "denoiser", "--state", "denoiser.state", "--log-with", "none",
                *options)  # fmt: skip


@pytest.fixture(autouse=True)
def pictures(tmp_path, monkeypatch) -> None:
    """Four training images, of which the second is left out at 64 px."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCAE_CACHE", str(tmp_path / "cache"))
    for name, content in ENTRIES.items():
        path = Path("config", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    torch.manual_seed(0)
    AutoencoderKL(block_out_channels=[8] * 3, down_block_types=["DownEncoderBlock2D"] * 3, norm_num_groups=4,
                  up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=4, layers_per_block=1,
                  ).save_pretrained("vae")  # fmt: skip
    for name, side, colour in (("a", 64, "red"), ("b", 32, "green"), ("c", 80, "blue"), ("d", 64, "white")):
        picture(f"train/{name}.png", side, colour, f"a {colour} square")
    picture("validation/e.png", 64, "black", "a black square")


def test_latents_of_other_images_are_refused_until_they_are_encoded_again(capsys):
    assert encode() == 0
    picture("train/c.png", 90, "blue", "a blue square")
    assert train() == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert "latents: these latents have another identity: images '" in error and "make them again" in error
    assert not Path("denoiser").exists()
    assert encode() == 0
    assert train() == 0
    assert Path("denoiser/model.safetensors").is_file()


def test_latents_know_the_file_of_released_weights():
    assert encode() == 0
    before = json.loads(Path("latents/index.json").read_text())["identity"]["weights"]
    model = AutoencoderKL.from_pretrained("vae")
    with torch.no_grad():
        model.encoder.conv_in.bias.add_(1)
    model.save_pretrained("vae")
    assert encode() == 0  # of another identity, and so made again
    assert json.loads(Path("latents/index.json").read_text())["identity"]["weights"] != before


def test_latents_alone_can_be_brought_to_where_the_images_are_not(capsys):
    assert encode() == 0
    shutil.rmtree("pictures")
    assert train() == 0
    said = "dataset pictures: pictures does not exist, so cached latents and captions of its images are used"
    assert said in capsys.readouterr().err


def test_captions_of_other_words_are_refused(capsys):
    assert encode() == captions() == 0
    picture("train/c.png", 80, "blue", "an azure square")
    assert train("pixart", "--captions", "texts") == cli.EXIT_ERROR
    assert "texts: these captions have another identity: captions '" in capsys.readouterr().err


def test_images_that_a_resolution_leaves_out_leave_the_captions_of_the_others_where_they_belong(monkeypatch):
    assert encode() == captions() == 0
    count = {folder: json.loads(Path(folder, "index.json").read_text())["count"] for folder in ("latents", "texts")}
    assert count == {"latents": 3, "texts": 5}  # of every image, and the empty one
    seen = {}
    with monkeypatch.context() as patch:
        patch.setattr("dcae.training.denoiser.train_denoiser", lambda **arguments: seen.update(arguments))
        assert train("pixart", "--captions", "texts") == 0
    assert seen["caption_rows"].tolist() == [0, 2, 3]

    assert train("pixart", "--captions", "texts") == 0
    assert dcae("reference", "config/mine.yaml", "--purpose", "generation", *PLACE, "--resolution", "64",
                "--output", "real.safetensors") == 0  # fmt: skip
    assert dcae("generate", "config/mine.yaml", "--diffusion", "pixart", "--patch-size", "4", *CELL, "--reference",
                "real.safetensors", "--features", "features", "--record", "record.json", "--images", "images.png",
                "--denoiser", "denoiser", "--captions", "texts") == 0  # fmt: skip
    assert json.loads(Path("record.json").read_text())["values"]["fid_without_guidance"]["n"] == 3
