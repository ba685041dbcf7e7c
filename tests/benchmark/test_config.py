# SPDX-License-Identifier: Apache-2.0
"""Mistakes in YAML files become errors that name the file, the field and what is allowed."""

import re
import time
from pathlib import Path

import pytest

from dcae.benchmark import Benchmark, Config, ConfigError, read_entry
from dcae.benchmark.config import REPOSITORY_CONFIG as CONFIG
from dcae.benchmark.config import read_yaml

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


def test_wrong_key_deep_in_an_entry_names_the_fields_beside_it(tmp_path):
    path = write(
        tmp_path,
        "recipes",
        "mine.yaml",
        "extends: mini-three-phase\ndescription: mine\nphases:\n- name: low-resolution-full\n  losses: {mxe: 1}\n",
    )
    assert "phases.0.losses.mxe: no such field\n    allowed fields: gan, kl, l1, mse, perceptual" in message_of(
        path, "recipes"
    )


def test_entry_without_kind_names_the_kinds(tmp_path):
    message = message_of(write(tmp_path, "recipes", "mine.yaml", "description: mine\n"), "recipes")
    assert message.endswith("(top level): no kind\n    allowed kinds: autoencoder, diffusion")


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


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("latent_scale: 0", "latent_scale"),
        ("latent_scale: .nan", "latent_scale"),
        ("latent_scale: .inf", "latent_scale"),
        ("latent_scale: false", "latent_scale: true and false are no values"),
        ("latent_scale: [1.0, true]", "latent_scale: true and false are no values"),
        ("latent_scale: no", "no would be read as false"),
        ("latent_shift: 1:30", "1:30 would be read as 90"),
        ("resolutions: [0100]", "0100 would be read as 64"),
    ],
)
def test_numbers_that_are_none_or_others_than_they_look_are_refused(tmp_path, field, said):
    assert said in message_of(write(tmp_path, "autoencoders", "mine.yaml", f"{AUTOENCODER}{field}\n"))


def test_an_infinite_learning_rate_is_refused(tmp_path):
    text = (CONFIG / "recipes/dit.yaml").read_text(encoding="utf-8")
    path = write(tmp_path, "recipes", "mine.yaml", re.sub(r"learning_rate: [^,}]*", "learning_rate: .inf", text))
    assert "optimiser.learning_rate: Input should be a finite number" in message_of(path, "recipes")


@pytest.mark.parametrize("name", ["mine (2)", "mine+1", "my ae", "-mine", "möbel", ".mine"])
def test_a_name_that_no_path_or_shell_takes_as_it_is_is_refused(tmp_path, name):
    path = write(tmp_path, "autoencoders", f"{name}.yaml", AUTOENCODER)
    assert str(path) in message_of(path) and "rename the file" in message_of(path)
    benchmark = tmp_path / f"{name}.yaml"
    benchmark.write_bytes((CONFIG / "demo.yaml").read_bytes())
    with pytest.raises(ConfigError, match="rename the file"):
        Benchmark.load(benchmark)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_than_utf_8_is_named(tmp_path, encoding):
    path = write(tmp_path, "autoencoders", "mine.yaml", "")
    path.write_bytes((AUTOENCODER + "description: größer\n").encode(encoding))
    assert f"{path}: not UTF-8" in message_of(path)
    path.write_bytes((AUTOENCODER + "description: größer\n").encode("utf-8-sig"))
    assert read_entry("autoencoders", path).description == "größer"


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / ("long" * 100)):
        with pytest.raises(ConfigError, match=r"cannot be read: (Is a directory|File name too long)"):
            read_yaml(path)


ALIASES = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [(ALIASES, "100,000 values"), ("a: &a [*a]", "100,000 values"), ("a: " + "[" * 200_000, "50 levels deep")],
    ids=["nested aliases", "an alias within itself", "deep nesting"],
)
def test_yaml_that_unfolds_without_bound_is_refused_at_once(tmp_path, text, said):
    path = tmp_path / "large.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=said):
        read_yaml(path)
    assert time.monotonic() - started < 10


def test_a_path_that_cannot_be_is_named(tmp_path):
    path = write(tmp_path, "datasets", "mine.yaml", f"kind: folder\npath: {'long' * 100}/images\n")
    assert "path: longer than paths can be here" in message_of(path, "datasets")


def test_a_home_that_is_not_there_is_named(tmp_path):
    path = write(tmp_path, "datasets", "mine.yaml", "kind: folder\npath: ~nobody-of-this-name/images\n")
    assert "path: Could not determine home directory" in message_of(path, "datasets")
