# SPDX-License-Identifier: Apache-2.0
"""The golden check, on a replica of what it needs and with made-up golden values."""

import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from dcae.benchmark import ConfigError
from dcae.benchmark.config import REPOSITORY_CONFIG
from evaluation.features import extractor, reference
from evaluation.quality import reconstruction
from tests.evaluation.conftest import FewFeatures
from workflow import cli
from workflow.commands.verify import read_golden


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    monkeypatch.setattr(extractor, "load_inception", lambda weights, device: None)
    monkeypatch.setattr(extractor, "InceptionFeatures", FewFeatures)


@pytest.fixture
def replica(tmp_path):
    """A folder of validation images, entries that name it, and golden values of the blur."""
    images = tmp_path / "images" / "validation" / "n01440764"
    images.mkdir(parents=True)
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"ILSVRC2012_val_{index:08d}.JPEG")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "replica.yaml").write_text(f"kind: folder\npath: {tmp_path / 'images'}\n")
    (tmp_path / "protocols").mkdir()
    protocol = yaml.safe_load((REPOSITORY_CONFIG / "protocols" / "random-features.yaml").read_text())
    (tmp_path / "protocols" / "replica.yaml").write_text(yaml.safe_dump(protocol))
    return tmp_path


def verify(replica, monkeypatch, values: dict[str, float], **changes) -> int:
    """Exit status of the command with these golden values."""
    golden = {name: {"value": value, "tolerance": 1e-3, "reason": "made up"} for name, value in values.items()}
    check = {"dataset": "replica", "resolution": 64, "protocol": "replica", "images": 6, "source": "a test"}
    content = {"checks": {"blur": {**check, "values": golden, **changes}}}
    (replica / "golden.yaml").write_text(yaml.safe_dump(content))
    options = ["--golden", str(replica / "golden.yaml"), "--folder", str(replica / "verify")]
    monkeypatch.setattr(sys, "argv", ["dcae", "verify", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def test_published_values_that_are_reproduced_hold_and_others_fail(replica, monkeypatch, capsys):
    assert verify(replica, monkeypatch, {"psnr": 12.0, "ssim": 0.5}) == cli.EXIT_ERROR
    output = capsys.readouterr()
    assert "FAILS psnr" in output.out and "expected 12.00000 ± 0.001 (made up)" in output.out
    assert output.err.startswith("error: blur: values differ from the published ones")
    found = dict(line.split()[1:3] for line in output.out.splitlines() if line.startswith(("holds", "FAILS")))
    assert verify(replica, monkeypatch, {name: float(value) for name, value in found.items()}) == 0
    output = capsys.readouterr().out
    assert output.count("holds") == 2 and "verified" in output
    assert "measured" not in output  # nothing was computed again


def test_a_golden_value_that_was_not_measured_fails(replica, monkeypatch, capsys):
    assert verify(replica, monkeypatch, {"fd_dinov2": 1.0}) == cli.EXIT_ERROR
    assert "FAILS fd_dinov2   not measured" in capsys.readouterr().out


def test_everything_that_is_missing_is_told_at_once(replica, monkeypatch, capsys, tmp_path):
    where = {"dataset": "nowhere", "protocol": "real"}
    (replica / "datasets" / "nowhere.yaml").write_text(f"kind: folder\npath: {tmp_path / 'nowhere'}\n")
    protocol = (REPOSITORY_CONFIG / "protocols" / "dc-ae.yaml").read_text()
    (replica / "protocols" / "real.yaml").write_text(protocol)
    empty = tmp_path / "empty" / "config" / "weights.yaml"
    empty.parent.mkdir(parents=True)
    empty.write_text((REPOSITORY_CONFIG / "weights.yaml").read_text())
    monkeypatch.setattr("dcae.weights.catalogue.find.__defaults__", (empty,))
    assert verify(replica, monkeypatch, {"psnr": 1.0}, **where) == cli.EXIT_ERROR
    error = capsys.readouterr().err
    for part in ("missing weights 'inception-2015-12-05'", "missing weights 'lpips-alexnet'", "put it at"):
        assert part in error
    assert "clip" not in error  # no caption, no CLIP score
    assert "missing dataset 'nowhere'" in error and "nowhere/validation: no such folder" in error


def test_fewer_images_than_the_published_values_are_of_verify_nothing(replica, monkeypatch, capsys):
    assert verify(replica, monkeypatch, {"psnr": 1.0}, images=50_000) == cli.EXIT_ERROR
    assert "give 6 validation images, the published values are of 50000" in capsys.readouterr().err


def test_the_repositorys_golden_values_are_the_published_ones():
    check = read_golden()["dc-ae-f64c128-in-1.0"]
    assert {name: round(golden.value, 4) for name, golden in check.values.items()} == {
        "rfid": 0.2168,
        "psnr": 26.1489,
        "ssim": 0.7105,
        "lpips": 0.0802,
    }
    assert (check.dataset, check.resolution, check.protocol, check.images) == ("imagenet", 512, "dc-ae", 50_000)


def test_a_tolerance_needs_a_reason(tmp_path):
    text = (REPOSITORY_CONFIG / "golden.yaml").read_text()
    path = tmp_path / "golden.yaml"
    path.write_text("\n".join(line for line in text.splitlines() if "TF32 and JPEG decoders" not in line))
    with pytest.raises(ConfigError, match=r"psnr\.reason"):
        read_golden(path)


def test_what_other_code_has_left_is_measured_again(replica, monkeypatch, capsys):
    done: list[str] = []
    for module, name in ((reconstruction, "measure"), (reference, "write_reference")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, o=original, n=name, **k: (done.append(n), o(*a, **k))[1])
    assert verify(replica, monkeypatch, {"psnr": 12.0}) == cli.EXIT_ERROR
    assert sorted(done) == ["measure", "write_reference"]
    verify(replica, monkeypatch, {"psnr": 12.0})
    assert len(done) == 2, "what is there is not measured twice"
    monkeypatch.setattr("workflow.commands.verify.sources_digest", lambda: "of other code")
    verify(replica, monkeypatch, {"psnr": 12.0})
    assert sorted(done[2:]) == ["measure", "write_reference"]
