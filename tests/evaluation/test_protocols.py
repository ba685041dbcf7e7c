# SPDX-License-Identifier: Apache-2.0
"""The protocols of the repository: what tells them apart, and what each fixes."""

import itertools

import pytest
import torch

from dcae.benchmark import Config
from dcae.benchmark.config import read_yaml
from dcae.benchmark.entries import Protocol
from dcae.weights.catalogue import CATALOGUE, WeightsError, find
from evaluation.features.extractor import Extractor
from evaluation.features.fingerprints import fingerprint, weights_identity
from evaluation.quality.one_pass import OnePass, columns

NAMES = ("dc-ae", "clean-fid", "torch-fidelity", "adm", "ldm", "modern-features")


def protocol(name: str) -> Protocol:
    return Config().entry("protocols", name)


def test_no_two_protocols_compute_the_same():
    decisive = [protocol(name).decisive() for name in (*NAMES, "random-features")]
    assert all(one != other for one, other in itertools.combinations(decisive, 2))


@pytest.mark.parametrize(
    ("name", "quantisation", "resize", "trunk"),
    [
        ("dc-ae", "round", "bilinear", "alex"),
        ("clean-fid", "round", "clean", "alex"),
        ("torch-fidelity", "round", "tensorflow1", "alex"),
        ("adm", "truncate", "tensorflow1", "alex"),
        ("ldm", "truncate", "tensorflow1", "vgg"),
        ("random-features", "round", "bilinear", "alex"),
    ],
)
def test_each_protocol_is_the_one_of_its_name(name, quantisation, resize, trunk):
    found = protocol(name)
    assert (found.quantisation, found.inception_resize, found.lpips.network) == (quantisation, resize, trunk)
    assert found.crop == "adm"
    if name != "random-features":
        assert found.reconstruction_images == 50_000
        assert found.source


def test_every_weight_file_of_a_protocol_is_in_the_catalogue():
    files = read_yaml(CATALOGUE)["files"]
    for name in NAMES:
        assert {network.weights for network in protocol(name).networks} <= set(files)


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_whose_weights_are_missing_is_an_error_before_any_image(name, monkeypatch, tmp_path):
    """Not a value less, nor random weights in their place."""
    empty = tmp_path / "config" / "weights.yaml"  # weights_dir lies beside its folder
    empty.parent.mkdir()
    empty.write_text(CATALOGUE.read_text())
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(empty))
    for make in (Extractor, OnePass):
        with pytest.raises(WeightsError, match=r"missing weights .* get https://.* and put it at"):
            make([protocol(name)])
    with pytest.raises(WeightsError, match="missing weights"):
        fingerprint(protocol(name))


def test_weights_of_the_clip_score_are_not_needed_to_name_a_protocol(monkeypatch, tmp_path):
    """A reconstruction has no captions, and is not to fail after its measurement."""
    random = {"weights": "random"}
    found = protocol("dc-ae")
    networks = {name: getattr(found, name).model_copy(update=random) for name in ("inception", "lpips")}
    found = found.model_copy(update=networks)
    empty = tmp_path / "config" / "weights.yaml"
    empty.parent.mkdir()
    text = CATALOGUE.read_text()
    empty.write_text(text)
    monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(empty))
    before = fingerprint(found)
    sha256 = read_yaml(CATALOGUE)["files"][found.clip.weights]["sha256"]
    empty.write_text(text.replace(sha256, "a" * len(sha256)))
    assert fingerprint(found) != before, "other weights are another protocol"


def catalogue(tmp_path, sha256: str):
    """A catalogue with one file, whose content is ``content``."""
    (tmp_path / "config").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "file.pth").write_bytes(b"content")
    path = tmp_path / "config" / "weights.yaml"
    path.write_text(
        "weights_dir: weights\nfiles:\n"
        "  some-file: {file: file.pth, used_for: a test, source: somewhere, licence: none,"
        f" sha256: {sha256}}}\n"
    )
    return path


def test_a_weight_file_with_the_wrong_hash_is_refused_and_both_hashes_are_told(tmp_path):
    with pytest.raises(WeightsError, match=r"has sha256 ed7002b4.*, expected 0123abcd.* remove it and get somewhere"):
        find("some-file", catalogue(tmp_path, '"0123abcd"'))


def test_a_weight_file_without_a_known_hash_is_refused_until_its_hash_is_entered(tmp_path):
    path = catalogue(tmp_path, "null")
    with pytest.raises(
        WeightsError, match=r"has sha256 (ed7002b4\w{56}), .* enter it as sha256 of some-file"
    ) as caught:
        find("some-file", path)
    digest = str(caught.value).split("has sha256 ")[1][:64]
    path.write_text(path.read_text().replace("null", digest))
    assert find("some-file", path).read_bytes() == b"content"


def test_protocols_share_what_they_compute_alike_and_nothing_else():
    shared = {name: columns(protocol(name)) for name in NAMES}
    assert shared["dc-ae"]["lpips"] == shared["clean-fid"]["lpips"] == shared["torch-fidelity"]["lpips"]
    assert shared["adm"]["inception"] == shared["ldm"]["inception"]
    assert shared["adm"]["lpips"] != shared["ldm"]["lpips"]
    resizes = {shared[name]["inception"] for name in ("dc-ae", "clean-fid", "torch-fidelity", "adm")}
    assert len(resizes) == 4
    assert shared["modern-features"]["inception"] == shared["dc-ae"]["inception"]


def test_the_identity_of_random_weights_is_their_seed():
    assert weights_identity(protocol("random-features").inception) == "random:0"


def test_features_that_are_not_finite_are_errors(monkeypatch):
    class Broken:
        def __init__(self, *arguments):
            pass

        def __call__(self, images):
            return torch.full((len(images), 4), torch.nan)

    monkeypatch.setattr("evaluation.features.extractor.load_inception", lambda weights, device: None)
    monkeypatch.setattr("evaluation.features.extractor.InceptionFeatures", Broken)
    extractor = Extractor([protocol("random-features")])
    with pytest.raises(ValueError, match=r"inception:inception-v3:random-0:bilinear: the network gives NaN"):
        extractor(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
