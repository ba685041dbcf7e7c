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
    assert compare(monkeypatch, pictures, f"identity, blur,{mine}", "--worst", "1") == 0
    said = capsys.readouterr().out
    assert "Left out: metric rFID: 2 pictures are too few, it needs 256" in said
    assert "| mine " in said and "3 autoencoders on 2 pictures" in said
    page = (tmp_path / "output" / "comparison.html").read_text()
    assert "dcae compare --images" in page and page.count("<figure>") == 2


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
