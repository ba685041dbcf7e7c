# SPDX-License-Identifier: Apache-2.0
"""Mistakes in YAML files become errors that name the file, the field and what is allowed."""

from pathlib import Path

import pytest

from dcae.benchmark import Config, ConfigError, read_entry

AUTOENCODER = """
kind: space-to-channel
spatial_compression: 16
latent_channels: 16
autoencoder: sd-vae-f8
factor: 2
"""


def write(folder: Path, kind: str, name: str, text: str) -> Path:
    path = folder / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def message_of(path: Path, kind: str = "autoencoders") -> str:
    with pytest.raises(ConfigError) as caught:
        read_entry(kind, path)
    return str(caught.value)


def test_entry_is_named_after_its_file(tmp_path):
    assert read_entry("autoencoders", write(tmp_path, "autoencoders", "mine.yaml", AUTOENCODER)).name == "mine"


def test_wrong_key_names_file_field_and_allowed_fields(tmp_path):
    path = write(tmp_path, "autoencoders", "mine.yaml", AUTOENCODER + "facter: 2\n")
    message = message_of(path)
    assert str(path) in message
    assert "facter" in message
    assert "allowed fields" in message and "factor" in message


def test_wrong_type_names_field_and_value(tmp_path):
    message = message_of(write(tmp_path, "autoencoders", "mine.yaml", AUTOENCODER.replace("factor: 2", "factor: two")))
    assert "factor" in message and "'two'" in message


def test_missing_field_is_named(tmp_path):
    assert "factor" in message_of(write(tmp_path, "autoencoders", "mine.yaml", AUTOENCODER.replace("factor: 2", "")))


def test_unknown_kind_lists_the_kinds(tmp_path):
    message = message_of(write(tmp_path, "autoencoders", "mine.yaml", "kind: vqgan\nspatial_compression: 8\n"))
    assert "dc-ae" in message and "diffusers" in message and "python" in message and "space-to-channel" in message


def test_key_given_twice_is_an_error(tmp_path):
    assert "appears twice" in message_of(write(tmp_path, "autoencoders", "mine.yaml", AUTOENCODER + "factor: 4\n"))


def test_yaml_that_is_no_mapping_is_an_error(tmp_path):
    assert "mapping" in message_of(write(tmp_path, "autoencoders", "mine.yaml", "- a\n- b\n"))


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean .*dc-ae-f32c32"):
        Config().entry("autoencoders", "dc-ae-f32c23")


@pytest.mark.parametrize("second", ["mine.yml", "mine.yaml"])
def test_two_entries_of_one_name_are_an_error(tmp_path, second):
    first = write(tmp_path / "one", "autoencoders", "mine.yaml", AUTOENCODER)
    other = write(tmp_path / "two", "autoencoders", second, AUTOENCODER)
    with pytest.raises(ConfigError) as caught:
        Config(tmp_path / "one", tmp_path / "two").entry("autoencoders", "mine")
    assert str(first) in str(caught.value) and str(other) in str(caught.value)


def test_every_entry_of_the_repository_is_valid():
    config = Config()
    for kind in ("autoencoders", "diffusion", "datasets", "recipes", "protocols"):
        names = config.files(kind)
        assert names, f"config/{kind} is empty"
        for name in names:
            assert config.entry(kind, name).name == name


def test_descriptions_do_not_decide_a_result(tmp_path):
    plain = read_entry("autoencoders", write(tmp_path / "a", "autoencoders", "mine.yaml", AUTOENCODER))
    text = AUTOENCODER + "description: better words\nlicence: MIT\npaper_name: X\n"
    described = read_entry("autoencoders", write(tmp_path / "b", "autoencoders", "yours.yaml", text))
    assert plain.decisive() == described.decisive()
