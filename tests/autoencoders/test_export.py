# SPDX-License-Identifier: Apache-2.0
"""A saved autoencoder opens with diffusers alone, in a process without this project; exports are whole or not there."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcae.autoencoders.export import ExportError, export_folder, require_exportable
from dcae.autoencoders.loading import load, save
from tests.autoencoders.small import dc_ae, kl

PROGRAM = """
import sys

import diffusers
import torch
from safetensors.torch import load_file, save_file

images = load_file("images")["images"]
for name, encode in (
    ("AutoencoderDC", lambda autoencoder: autoencoder.encode(images).latent),
    ("AutoencoderKL", lambda autoencoder: autoencoder.encode(images).latent_dist.mode()),
):
    autoencoder = getattr(diffusers, name).from_pretrained(name)
    with torch.no_grad():
        latents = encode(autoencoder)
        decoded = autoencoder.decode(latents).sample
    save_file({"latents": latents.contiguous(), "images": decoded.contiguous()}, name + ".outputs")
    print(autoencoder.config.scaling_factor)
assert not [module for module in sys.modules if module.split(".")[0] in ("dcae", "evaluation", "workflow")]
"""


def test_saved_folders_open_with_diffusers_alone_and_give_the_same(tmp_path):
    trained = {"AutoencoderDC": load(dc_ae(), seed=6), "AutoencoderKL": load(kl(), seed=6)}
    for name, autoencoder in trained.items():
        autoencoder.latent_scale = 0.37
        save(autoencoder, tmp_path / name)
    images = torch.rand(2, 3, 32, 64) * 2 - 1
    save_file({"images": images}, tmp_path / "images")
    command = [sys.executable, "-I", "-c", PROGRAM]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["0.37", "0.37"]
    for name, autoencoder in trained.items():
        with torch.no_grad():
            latents = autoencoder.encode(images)
            expected = {"latents": latents, "images": autoencoder.decode(latents)}
        for what, values in load_file(tmp_path / f"{name}.outputs").items():
            # fp32 sums in another order differ by about 1e-6 in some twenty layers.
            torch.testing.assert_close(values, expected[what], rtol=1e-4, atol=1e-5, msg=f"{name} {what}")


@pytest.fixture
def trained(tmp_path):
    autoencoder = load(dc_ae(), seed=1)
    autoencoder.latent_scale = 0.5
    save(autoencoder, tmp_path / "trained")
    return tmp_path / "trained"


def test_an_export_is_the_same_to_the_byte_with_a_card(trained, tmp_path):
    export_folder(trained, tmp_path / "new" / "export", "# card\n")
    names = ["README.md", "config.json", "diffusion_pytorch_model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "new" / "export").iterdir()) == names
    for name in names[1:]:
        assert (tmp_path / "new" / "export" / name).read_bytes() == (trained / name).read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["export"]


def test_nothing_is_overwritten(trained, tmp_path):
    (tmp_path / "export").mkdir()
    with pytest.raises(ExportError, match="export exists; remove it"):
        export_folder(trained, tmp_path / "export", "")


def test_nothing_is_left_of_an_export_that_fails(trained, tmp_path):
    path = trained / "diffusion_pytorch_model.safetensors"
    whole = load_file(path)
    save_file({**whole, "surplus": torch.zeros(1)}, path)
    with pytest.raises(ExportError, match=r"AutoencoderDC does not open .*unexpected keys: \['surplus'\]"):
        export_folder(trained, tmp_path / "export", "")
    shutil.rmtree(trained)
    with pytest.raises(FileNotFoundError):
        export_folder(trained, tmp_path / "export", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shortcut": "none"}, "AutoencoderDC has no shortcut: none; dcae.autoencoders.load opens"),
        ({"variational": True}, "AutoencoderDC has no posterior"),
        ({"stages": {"encoder_blocks": ["ResBlock"] * 3 + ["TransformerBlock"]}}, "has no TransformerBlock"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_with_the_reason(change, reason):
    require_exportable(load(dc_ae(), device="meta").entry)
    with pytest.raises(ExportError, match=reason):
        require_exportable(load(dc_ae(**change), device="meta").entry)
