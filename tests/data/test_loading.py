# SPDX-License-Identifier: Apache-2.0
"""From entries to datasets."""

import pickle

import pytest
import torch
from PIL import Image

from dcae.benchmark.config import Config
from dcae.benchmark.entries import FolderEntry
from dcae.data.loading import open_dataset
from dcae.data.mixture import Mixture
from dcae.data.storage.files import DatasetError


@pytest.mark.parametrize("name", ["scenes", "photographs"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_embedded_data_sets_open_as_configured(name, split):
    entry = Config().entry("datasets", name)
    dataset = open_dataset(entry, split, 64)
    assert len(dataset) == getattr(entry, f"{split}_images")
    assert len(dataset.fingerprint) == 16
    sample = pickle.loads(pickle.dumps(dataset))[len(dataset) - 1]  # as it reaches a worker process
    assert sample.image.shape == (3, 64, 64) and sample.image.dtype == torch.uint8
    assert 0 <= sample.label < len(dataset.classes) and sample.caption


@pytest.mark.parametrize("name", ["scenes", "photographs"])
def test_fingerprint_follows_the_decisive_fields_only(name):
    entry = Config().entry("datasets", name)

    def fingerprint(split="train", resolution=64, **changes):
        return open_dataset(entry.model_copy(update=changes), split, resolution).fingerprint

    same = {
        fingerprint(),
        fingerprint(description="other words"),
        fingerprint(name="copy"),
        fingerprint(validation_images=7),
    }
    assert len(same) == 1
    others = [fingerprint("validation"), fingerprint(resolution=128), fingerprint(seed=1), fingerprint(train_images=5)]
    assert len({*same, *others}) == 5


def test_folder_entry_finds_its_split(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (20, 20), "red" if split == "train" else "blue").save(tmp_path / split / "image.png")
    entry = FolderEntry(kind="folder", name="mine", path=str(tmp_path), validation="val")
    assert open_dataset(entry, "train", 8)[0].image[:, 0, 0].tolist() == [255, 0, 0]
    assert open_dataset(entry, "validation", 8)[0].image[:, 0, 0].tolist() == [0, 0, 255]
    assert open_dataset(entry, "train", 8, crop="random").crop == "random"


def test_missing_imagenet_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="data/imagenet: no ImageNet there"):
        open_dataset(Config().entry("datasets", "imagenet"), "validation", 256)


def test_unknown_split():
    with pytest.raises(ValueError, match="train, validation, got 'test'"):
        open_dataset(Config().entry("datasets", "scenes"), "test", 64)


def test_embedded_data_sets_mix():
    parts = [open_dataset(Config().entry("datasets", name), "train", 64) for name in ("scenes", "photographs")]
    batch = Mixture(parts, [0.5, 0.5], seed=0).batch(range(16))
    assert batch.shape == (16, 3, 64, 64) and batch.dtype == torch.uint8
