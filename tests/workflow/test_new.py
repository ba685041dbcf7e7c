# SPDX-License-Identifier: Apache-2.0
"""``dcae new``: an entry like another one, never over a file that is there."""

import pytest
import yaml

from dcae.autoencoders.loading import load
from dcae.benchmark import Config, read_entry
from tests.workflow.test_commands import dcae


@pytest.mark.parametrize("like", ["dc-ae-f32c32", "sd-vae-ft-ema", "patch-pca-f8c4"])
def test_a_new_entry_is_the_old_one_until_it_is_changed(monkeypatch, tmp_path, like):
    assert dcae(monkeypatch, "new", "mine", "--like", like, "--folder", str(tmp_path)) == 0
    path = tmp_path / "mine.yaml"
    mine, other = read_entry("autoencoders", path), Config().entry("autoencoders", like)
    assert mine.name == "mine" and mine.decisive() == other.decisive()
    fields = [line.removeprefix("# ") for line in path.read_text().splitlines()[5:]]
    assert yaml.safe_load("\n".join(fields))["kind"] == other.kind
    path.write_text(path.read_text().replace("# latent_channels:", "latent_channels:"))
    assert read_entry("autoencoders", path).latent_channels == other.latent_channels


def test_it_overwrites_nothing_and_its_name_is_checked(monkeypatch, tmp_path, capsys):
    arguments = ("--like", "dc-ae-f32-demo", "--folder", str(tmp_path))
    assert dcae(monkeypatch, "new", "mine", *arguments) == 0
    assert load(tmp_path / "mine.yaml", untrained=True).spatial_compression == 32
    (tmp_path / "mine.yaml").write_text("mine\n")
    for name, message in {
        "mine": "is there already", "dc-ae-f32c32": "is an entry already", "my entry": "is no name",
        "../mine": "is no name",
    }.items():  # fmt: skip
        assert dcae(monkeypatch, "new", name, *arguments) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine\n"
    assert dcae(monkeypatch, "new", "other", "--like", "dc-ae-f32c33") == 1
    assert "did you mean dc-ae-f32c32" in capsys.readouterr().err
