# SPDX-License-Identifier: Apache-2.0
"""Reference features: complete, in order, and refused wherever they do not fit."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import Subset

import evaluation.features.extractor
import evaluation.features.reference
from dcae.benchmark import Config
from dcae.benchmark.entries import Protocol, ScenesEntry
from dcae.data.dataset import ImageDataset
from dcae.data.loading import open_dataset
from evaluation.features.reference import ReferenceError, batches, read_reference, write_reference
from evaluation.metrics.frechet import Moments


class FewFeatures:
    """In place of the Inception network: 48 mean colours."""

    def __init__(self, protocol: Protocol, device: str, network: None = None):
        pass

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), images.shape[-1] // 4).flatten(1)


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    monkeypatch.setattr(evaluation.features.extractor, "load_inception", lambda weights, device: None)
    monkeypatch.setattr(evaluation.features.extractor, "InceptionFeatures", FewFeatures)


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return Config().entry("protocols", "random-features")


def scenes(split: str = "validation", resolution: int = 64, images: int = 7, seed: int = 0) -> ImageDataset:
    entry = ScenesEntry(name="scenes", kind="scenes", seed=seed, train_images=images, validation_images=images)
    return open_dataset(entry, split, resolution)


def test_batches_are_the_first_images_in_order():
    dataset = scenes()
    found = list(batches(dataset, 5, batch_size=2))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert torch.equal(torch.cat(found), torch.stack([dataset[k].image for k in range(5)]))
    assert sum(map(len, batches(dataset, 100, batch_size=4))) == 7  # all there are


def test_features_come_back_as_written(tmp_path, protocol):
    path = tmp_path / "folder" / "reference.safetensors"
    write_reference(scenes(), 5, protocol, path, batch_size=2)
    features = read_reference(path, scenes(), 5, protocol)["inception"].whole
    expected = FewFeatures(protocol, "cpu", None)(torch.cat(list(batches(scenes(), 5, batch_size=5))))
    assert torch.equal(features, expected)
    assert [each.name for each in path.parent.iterdir()] == ["reference.safetensors"]  # no temporary file


def test_of_many_images_only_the_moments_are_kept(tmp_path, protocol, monkeypatch):
    everything, few = tmp_path / "features.safetensors", tmp_path / "moments.safetensors"
    write_reference(scenes(), 7, protocol, everything, batch_size=2)
    monkeypatch.setattr(evaluation.features.reference, "MOST_FEATURES", 6)
    monkeypatch.setattr(evaluation.features.reference, "KEPT_OF_MORE", 3)
    monkeypatch.setattr(evaluation.features.reference, "BLOCK", 3)  # blocks of 4 and 3 images
    write_reference(scenes(), 7, protocol, few, batch_size=2)
    features = read_reference(everything, scenes(), 7, protocol)["inception"].whole
    expected = Moments.of(features)
    reference = read_reference(few, scenes(), 7, protocol)["inception"]
    found = reference.whole
    assert torch.equal(reference.features, features[[0, 3, 6]])  # evenly spaced, for KID, precision and recall
    assert found.count == 7
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.scatter, expected.scatter, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("large", [False, True])
def test_a_stopped_run_resumes_with_the_shards_that_are_missing(tmp_path, protocol, monkeypatch, large):
    monkeypatch.setattr(evaluation.features.reference, "SHARD_SIZE", 2)
    if large:
        monkeypatch.setattr(evaluation.features.reference, "MOST_FEATURES", 6)
    whole, path = tmp_path / "whole.safetensors", tmp_path / "reference.safetensors"
    write_reference(scenes(), 7, protocol, whole, batch_size=2)
    read = []

    class Killed(Exception):
        pass

    class Scenes(type(scenes())):
        def __getitem__(self, index):
            read.append(index)
            if len(read) == 6:
                raise Killed
            return super().__getitem__(index)

    images = Scenes(0, "validation", 7, 64)
    with pytest.raises(Killed):
        write_reference(images, 7, protocol, path, batch_size=2)
    assert not path.exists()
    write_reference(images, 7, protocol, path, batch_size=2)
    assert read == [0, 1, 2, 3, 4, 5, 4, 5, 6]
    expected, found = load_file(whole), load_file(path)
    assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert not path.with_suffix(".state").exists()


def test_a_protocol_that_differs_elsewhere_shares_the_reference(tmp_path, protocol):
    path = tmp_path / "reference.safetensors"
    write_reference(scenes(), 5, protocol, path)
    other = protocol.model_copy(update={"clip": None, "generation_images": 3, "name": "other"})
    assert len(read_reference(path, scenes(), 5, other)["inception"].features) == 5


def test_protocols_of_other_resizes_have_their_own_features_in_one_file(tmp_path, protocol):
    path = tmp_path / "reference.safetensors"
    clean = protocol.model_copy(update={"inception_resize": "clean", "name": "clean"})
    write_reference(scenes(), 5, protocol, path, further=[clean])
    with safe_open(path, "pt") as file:
        assert len(file.keys()) == 2
    for each in (protocol, clean):
        assert len(read_reference(path, scenes(), 5, each)["inception"].features) == 5
    third = protocol.model_copy(update={"inception_resize": "tensorflow1"})
    with pytest.raises(ReferenceError, match="tensorflow1 is None"):
        read_reference(path, scenes(), 5, third)


def test_a_reference_without_images_is_refused(tmp_path, protocol):
    with pytest.raises(ReferenceError, match="has none"):
        write_reference(Subset(scenes(), []), 5, protocol, tmp_path / "reference.safetensors")


@pytest.mark.parametrize(
    ("asked_for", "field"),
    [
        ({"split": "train"}, "dataset"),
        ({"seed": 1}, "dataset"),
        ({"resolution": 128}, "resolution is '64', expected '128'"),
        ({"inception_resize": "clean"}, "features"),
        ({"count": 6}, "images is '5', expected '6'"),
    ],
)
def test_a_reference_of_something_else_is_refused(asked_for, field, tmp_path, protocol):
    path = tmp_path / "reference.safetensors"
    write_reference(scenes(), 5, protocol, path)
    resize = {"inception_resize": asked_for.pop("inception_resize", "bilinear")}
    count = asked_for.pop("count", 5)
    with pytest.raises(ReferenceError, match=field) as caught:
        read_reference(path, scenes(**asked_for), count, protocol.model_copy(update=resize))
    assert str(path) in str(caught.value)


def test_missing_and_damaged_references_are_refused(tmp_path, protocol):
    path = tmp_path / "reference.safetensors"
    with pytest.raises(ReferenceError, match="no such file"):
        read_reference(path, scenes(), 5, protocol)
    write_reference(scenes(), 5, protocol, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReferenceError, match="damaged"):
        read_reference(path, scenes(), 5, protocol)
    assert not path.exists(), "what a rule's output lacks is made anew"


def test_a_flipped_bit_is_found(tmp_path, protocol):
    path = tmp_path / "reference.safetensors"
    write_reference(scenes(), 5, protocol, path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReferenceError, match=r"sha256 differs\); kept as reference.safetensors.damaged"):
        read_reference(path, scenes(), 5, protocol)
    write_reference(scenes(), 5, protocol, path)
    assert len(read_reference(path, scenes(), 5, protocol)["inception"].features) == 5


def test_the_same_features_are_the_same_bytes(tmp_path, protocol):
    contents = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        write_reference(scenes(), 2, protocol, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_of_a_large_set_no_batch_stays_in_memory(monkeypatch):
    """A part of a tensor that is no copy keeps the whole one."""
    monkeypatch.setattr(evaluation.features.reference, "MOST_FEATURES", 6)
    monkeypatch.setattr(evaluation.features.reference, "KEPT_OF_MORE", 3)
    collector = evaluation.features.reference._Collector(12)
    for start in range(0, 12, 3):
        collector.add(torch.arange(start, start + 3, dtype=torch.float32)[:, None].repeat(1, 8))
    kept = collector.kept
    assert sum(each.untyped_storage().nbytes() for each in kept) == sum(each.nbytes for each in kept)
    assert collector.tensors()["features"][:, 0].tolist() == [0, 4, 8]
