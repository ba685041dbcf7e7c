# SPDX-License-Identifier: Apache-2.0
"""``dcae pin``: commit and sha256 are entered where they belong, and nothing else in a file changes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub.errors import RepositoryNotFoundError

from dcae.benchmark import Config
from dcae.benchmark.config import REPOSITORY_CONFIG, read_entry
from dcae.weights.pinning import PinError, pin_entry
from workflow import cli

COMMIT, NEWER, SHA = "a" * 40, "b" * 40, "c" * 64
ENTRY = """# A comment above.
kind: diffusers
description: mine   # and one beside
spatial_compression: 8
latent_channels: 4
latent_scale: 1.0
class: AutoencoderKL
{pretrained}
conventions: {{latent_statistics: entry}}  # the last line
"""


class Hub:
    """In the place of ``HfApi``: each repository with its branches and the sha256 of its files."""

    def __init__(self, files: dict[str, str | None] | None = None, missing: tuple[str, ...] = ()):
        self.files = {
            "config.json": None,
            "vae/model.safetensors": "d" * 64,
            "diffusion_pytorch_model.safetensors": SHA,
        }
        self.files |= files or {}
        self.missing, self.asked_for = missing, []

    def model_info(self, repo_id, *, revision=None, files_metadata=False):
        self.asked_for.append((repo_id, revision))
        if repo_id in self.missing:
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise RepositoryNotFoundError("404: no such repository, or gated", response=response)
        files = [
            SimpleNamespace(rfilename=name, lfs=sha and SimpleNamespace(sha256=sha)) for name, sha in self.files.items()
        ]
        commit = revision if revision and len(revision) == 40 else NEWER if revision else COMMIT
        return SimpleNamespace(sha=commit, siblings=files)


def write(folder: Path, pretrained: str, name: str = "mine") -> Path:
    path = folder / "autoencoders" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ENTRY.format(pretrained=pretrained))
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pretrained: {id: a/b}", f"pretrained: {{id: a/b, revision: {COMMIT}, sha256: {SHA}}}"),
        ("pretrained: { id: a/b }  # x", f"pretrained: {{ id: a/b, revision: {COMMIT}, sha256: {SHA} }}  # x"),
        (
            "pretrained: {id: a/b, subfolder: vae}",
            f"pretrained: {{id: a/b, subfolder: vae, revision: {COMMIT}, sha256: {'d' * 64}}}",
        ),
        (
            f"pretrained: {{revision: {'e' * 40}, id: a/b}}",
            f"pretrained: {{revision: {'e' * 40}, id: a/b, sha256: {SHA}}}",
        ),
        (
            f"pretrained: {{id: a/b, revision: main, sha256: {'0a' * 32}}}",
            f"pretrained: {{id: a/b, revision: {NEWER}, sha256: {SHA}}}",
        ),
        (
            "pretrained:\n  # which\n  id: a/b  # this one\n  revision: main",
            f"pretrained:\n  # which\n  id: a/b  # this one\n  revision: {NEWER}\n  sha256: {SHA}",
        ),
    ],
)
def test_commit_and_sha256_are_entered_and_nothing_else_changes(tmp_path, before, after):
    path = write(tmp_path, before)
    pins = pin_entry("autoencoders", path, Hub())
    assert path.read_text() == ENTRY.format(pretrained=after)
    found = read_entry("autoencoders", path).pretrained
    assert [(each.id, each.revision, each.sha256) for each in pins] == [("a/b", found.revision, found.sha256)]
    pin_entry("autoencoders", path, Hub())
    assert path.read_text() == ENTRY.format(pretrained=after), "a second time changes nothing"


def test_of_several_files_none_is_taken_for_the_one(tmp_path):
    path = write(tmp_path, "pretrained: {id: a/b}")
    (pin,) = pin_entry("autoencoders", path, Hub({"model.safetensors": "f" * 64}))
    assert pin.sha256 is None and read_entry("autoencoders", path).pretrained.sha256 is None


def test_a_commit_of_digits_alone_stays_a_text(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.workflow.test_pin.COMMIT", "1" * 40)
    path = write(tmp_path, "pretrained: {id: a/b}")
    pin_entry("autoencoders", path, Hub())
    assert read_entry("autoencoders", path).pretrained.revision == "1" * 40


def test_folders_and_entries_that_say_nothing_of_weights_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints/mine").mkdir(parents=True)
    write(tmp_path, "pretrained: {id: a/b}")
    below = tmp_path / "autoencoders" / "below.yaml"
    below.write_text("extends: mine\nlatent_scale: 2.0\n")
    hub = Hub()
    file = write(tmp_path, "pretrained: {id: ldm/kl-f16.safetensors}", "file")
    for path in (write(tmp_path, "pretrained: {id: checkpoints/mine}", "folder"), file, below):
        before = path.read_text()
        assert pin_entry("autoencoders", path, hub) == [] and path.read_text() == before
    assert hub.asked_for == []


def test_every_released_entry_of_this_repository_can_be_pinned(tmp_path):
    """In a copy; the text encoder of a diffusion model beside the model itself."""
    config = Config()
    pinned = 0
    for kind in ("autoencoders", "diffusion"):
        for name, (file,) in config.files(kind).items():
            expected = file.read_text().count("pretrained:")
            if not expected or "id: ldm/" in file.read_text():  # LDM's weights are files, which no hub has
                continue
            path = tmp_path / kind / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(file.read_text())
            pins = pin_entry(kind, path, Hub())
            assert len(pins) == expected, name
            assert path.read_text().count(COMMIT) + file.read_text().count("revision: ") == expected
            for line in set(file.read_text().splitlines()) - set(path.read_text().splitlines()):
                assert "pretrained: {" in line or "sha256: " in line
            pinned += len(pins)
    assert pinned > 40


def test_what_the_hub_does_not_give_is_told_and_the_others_are_pinned(tmp_path, monkeypatch, capsys):
    hub = Hub(missing=("gated/one",))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    gated, mine = write(tmp_path, "pretrained: {id: gated/one}", "gated"), write(tmp_path, "pretrained: {id: a/b}")
    before = gated.read_text()
    with pytest.raises(SystemExit) as ended:
        monkeypatch.setattr(sys, "argv", ["dcae", "pin", str(gated), str(mine)])
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == cli.EXIT_ERROR
    assert f"left out: {gated}: gated/one cannot be looked up on the hub" in said.out and "hf auth login" in said.out
    assert f"{mine}: a/b at {COMMIT}, sha256 {SHA}" in said.out
    assert "error: 1 entries are not pinned" in said.err
    assert gated.read_text() == before
    with pytest.raises(PinError):
        pin_entry("autoencoders", gated, hub)


def test_a_benchmark_stands_for_its_entries(tmp_path, monkeypatch, capsys):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    mine, below = write(tmp_path, "pretrained: {id: a/b}"), tmp_path / "autoencoders" / "below.yaml"
    fields = {"kind": "space-to-channel", "autoencoder": "mine", "factor": 2, "spatial_compression": 16}
    below.write_text(yaml.safe_dump(fields | {"latent_channels": 16}))
    reconstruction = {"protocol": "random-features", "datasets": {"scenes": {64: None}}}
    content = {"description": "x", "autoencoders": ["below"], "controls": ["blur"], "reconstruction": reconstruction}
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(sys, "argv", ["dcae", "pin", str(tmp_path / "benchmark.yaml")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert hub.asked_for == [("a/b", None)] and COMMIT in mine.read_text()
    assert not any(COMMIT in path.read_text() for path in (REPOSITORY_CONFIG / "autoencoders").glob("*.yaml"))


def test_without_a_network_one_line_says_so(monkeypatch, capsys):
    from huggingface_hub.errors import HTTPError

    def unreachable(*_, **__):
        raise HTTPError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr(sys, "argv", ["dcae", "pin", "config/pretrained.yaml"])
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr()
    [line] = (told.out + told.err).splitlines()
    assert (
        line.startswith("error: ") and "the hub cannot be reached (no route to host); pinning needs a network" in line
    )
