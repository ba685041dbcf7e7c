# SPDX-License-Identifier: Apache-2.0
"""``dcae compare`` as a user types it."""

from __future__ import annotations

import shutil

import pytest
import yaml

from dcae.data.photographs import folder as photographs
from tests.workflow.test_commands import dcae
from workflow import cli


@pytest.fixture
def pictures(tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photographs() / name, made)
    return made


def compare(monkeypatch, pictures, autoencoders: str, *further: str) -> int:
    options = ["--images", str(pictures), "--autoencoders", autoencoders, "--resolution", "64"]
    output = str(pictures.parent / "output")
    return dcae(monkeypatch, "compare", *options, "--protocol", "random-features", "--output", output, *further)


def test_own_pictures_and_an_entry_of_ones_own(monkeypatch, capsys, tmp_path, pictures):
    blur = {"kind": "python", "factory": "dcae.autoencoders.controls:blur", "arguments": {"spatial_compression": 16}}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({**blur, "spatial_compression": 16, "latent_channels": 3, "latent_scale": 1.0}))
    assert compare(monkeypatch, pictures, f"identity, blur,{mine}", "--shown", "1") == 0
    said = capsys.readouterr().out
    assert "Left out: metric rFID: 2 pictures are too few, it needs 256" in said
    assert "| mine " in said and "3 autoencoders on 2 pictures" in said
    page = (tmp_path / "output" / "comparison.html").read_text()
    assert "dcae compare --images" in page and page.count("<figure") == 1


def test_an_autoencoder_that_is_left_out_shows_in_the_exit_status(monkeypatch, capsys, pictures):
    assert compare(monkeypatch, pictures, "blur,sd-vae-f8-demo") == 1
    said = capsys.readouterr().out
    assert "Left out: autoencoder sd-vae-f8-demo: is trained here" in said and "| blur " in said


@pytest.mark.parametrize(
    ("autoencoders", "message"),
    [
        ("", "--autoencoders: name at least one"),
        ("blur,blur", "blur is named twice"),
        ("blurr", "did you mean blur"),
        ("sd-vae-f8-demo", "no autoencoder could be measured"),
    ],
)
def test_mistakes_are_told(autoencoders, message, monkeypatch, capsys, pictures):
    assert compare(monkeypatch, pictures, autoencoders) == cli.EXIT_ERROR
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "chelsea.png"}, "chelsea.png is a file; name the folder that it is in"),
        ({"images": ""}, "--images: is empty; name a folder"),
        ({"images": "nowhere"}, "--images: nowhere: no such folder or zip file"),
        ({"output": "chelsea.png"}, "chelsea.png cannot be written as a folder"),
        ({"output": "chelsea.png/below"}, "below cannot be written as a folder"),
    ],
)
def test_folders_that_are_none_are_told_before_anything_is_measured(options, message, monkeypatch, capsys, pictures):
    monkeypatch.chdir(pictures)
    monkeypatch.setattr("evaluation.comparison.compare.compare", lambda *arguments: pytest.fail("measured"))
    found = {"images": ".", "output": "out", "autoencoders": "blur", **options}
    assert dcae(monkeypatch, "compare", *(part for name, text in found.items() for part in (f"--{name}", text))) == 1
    assert message in capsys.readouterr().err


def test_a_comparison_among_the_pictures_is_none_of_them(monkeypatch, capsys, pictures):
    monkeypatch.chdir(pictures)
    for _ in range(2):
        assert dcae(
            monkeypatch, "compare", "--images", ".", "--autoencoders", "blur", "--resolution", "64",
            "--protocol", "random-features",
        ) == 0  # fmt: skip
        assert "1 autoencoders on 2 pictures" in capsys.readouterr().out


def test_small_crops_leave_lpips_out_by_name(monkeypatch, capsys, pictures):
    assert compare(monkeypatch, pictures, "blur", "--resolution", "16") == 0
    said = capsys.readouterr().out
    assert "Left out: metric LPIPS: needs images of 32 px, these have 16" in said and "PSNR" in said


FOREIGN = """
import torch
class Breaks(torch.nn.Module):
    spatial_compression, latent_channels, latent_scale, latent_shift = 8, 3, 1.0, 0.0
    def __init__(self, error):
        super().__init__()
        self.error = error
    def encode(self, images):
        if images.abs().max() < 1:
            return torch.nn.functional.avg_pool2d(images, 8)
        raise self.error
    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=8)
def index(): return Breaks(IndexError("list index out of range"))
def runtime(): return Breaks(RuntimeError("CUDA error:\\n  device-side assert"))
def key(): raise KeyError("model")
def leave(): raise SystemExit(3)
"""


def test_an_autoencoder_that_fails_in_any_way_is_left_out_by_name(monkeypatch, capsys, tmp_path, pictures):
    (tmp_path / "foreign_code.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    fields = {"kind": "python", "spatial_compression": 8, "latent_channels": 3, "latent_scale": 1.0}
    for name in ("index", "runtime", "key", "leave"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**fields, "factory": f"foreign_code:{name}"}))
    names = ",".join(f"{tmp_path}/{name}.yaml" for name in ("index", "runtime", "key", "leave"))
    assert compare(monkeypatch, pictures, f"blur,{names}", "--shown", "0") == 1
    said = capsys.readouterr().out
    for name, reason in (
        ("index", "IndexError: list index out of range"),
        ("runtime", "RuntimeError: CUDA error: device-side assert"),
        ("key", "KeyError: 'model'"),
        ("leave", "SystemExit: 3"),
    ):
        assert f"Left out: autoencoder {name}: " in said and reason in said
    assert "| blur " in said
