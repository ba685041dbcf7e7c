# SPDX-License-Identifier: Apache-2.0
"""Images smaller than the resolution: enlarged and counted, or left out."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from dcae.benchmark.config import Config
from dcae.benchmark.entries import FolderEntry
from dcae.benchmark.entries.datasets import ExpectedImages
from dcae.data import image_sizes as module
from dcae.data.image_sizes import image_sizes, smaller
from dcae.data.layouts.index import index_split
from dcae.data.loading import caption_rows, open_dataset
from dcae.data.storage.files import DatasetError
from tests.data import replicas

SIDES = {"a": (40, 30), "b": (16, 50), "c": (20, 20), "d": (19, 90), "e": (64, 64)}


def names(dataset):
    return dataset.samples.names.to_pylist()


def entry(path, smaller_images="upsample"):
    return FolderEntry(kind="folder", name="mine", path=str(path), smaller_images=smaller_images)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "validation"):
        for name, size in SIDES.items():
            replicas.write(tmp_path / split / f"{name}.jpg", replicas.encoded(name, size))
    return tmp_path


def test_sizes_are_those_of_the_images(folder):
    np.testing.assert_array_equal(image_sizes(index_split(entry(folder), "train")), list(SIDES.values()))


def test_sizes_are_read_once(folder, monkeypatch):
    samples = index_split(entry(folder), "train")
    first = image_sizes(samples)
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_header", lambda *_: pytest.fail("read again"))
        np.testing.assert_array_equal(image_sizes(index_split(entry(folder), "train")), first)
    replicas.write(folder / "train" / "f.jpg", replicas.encoded("f", (8, 9)))
    assert image_sizes(index_split(entry(folder), "train")).tolist()[-1] == [8, 9]


def test_several_processes_read_the_same_sizes(folder, monkeypatch, own_cache):
    samples = index_split(entry(folder), "train")
    one = image_sizes(samples)
    monkeypatch.setattr(module, "FEW", 0)
    monkeypatch.setattr(module, "BLOCK", 2)
    for file in (own_cache / "datasets").iterdir():
        file.unlink()
    np.testing.assert_array_equal(image_sizes(samples, processes=2), one)


def test_an_image_is_smaller_if_its_short_side_is(folder):
    sizes = image_sizes(index_split(entry(folder), "train"))
    assert smaller(sizes, 20).tolist() == [False, True, False, True, False]


def test_enlarged_images_are_counted(folder):
    dataset = open_dataset(entry(folder), "validation", 20)
    assert (len(dataset), dataset.enlarged(), dataset.enlarged(2)) == (5, 2, 1)
    assert open_dataset(entry(folder), "validation", 16).enlarged() == 0


def test_records_remark_on_the_share_of_enlarged_images(folder):
    dataset = open_dataset(entry(folder), "validation", 20)
    assert dataset.remarks(1) == []
    assert dataset.remarks(4) == ["2 of 4 images (50.0%) are smaller than the crop and were enlarged"]
    assert dataset.remarks(50_000) == ["2 of 5 images (40.0%) are smaller than the crop and were enlarged"]


def test_discarding_leaves_out_small_training_images_only_and_tells_how_many(folder, capsys):
    dataset = open_dataset(entry(folder, "discard"), "train", 20)
    assert names(dataset) == ["a.jpg", "c.jpg", "e.jpg"]
    assert "dataset mine: 2 of 5 training images are smaller than 20 px and left out" in capsys.readouterr().err
    assert dataset.enlarged() == 0
    assert dataset.fingerprint != open_dataset(entry(folder), "train", 20).fingerprint
    assert len(open_dataset(entry(folder, "discard"), "validation", 20)) == 5


def test_discarding_keeps_labels_and_captions_with_their_images(tmp_path):
    for label, (name, size) in enumerate(SIDES.items()):
        replicas.write(tmp_path / "train" / f"class {label}" / f"{name}.jpg", replicas.encoded(name, size))
        replicas.write(tmp_path / "train" / f"class {label}" / f"{name}.txt", f"caption {name}")
    dataset = open_dataset(entry(tmp_path, "discard"), "train", 20)
    kept = [(names(dataset)[k], dataset.label(k), dataset.caption(k)) for k in range(len(dataset))]
    assert kept == [
        (f"class {label}/{name}.jpg", label, f"caption {name}") for label, name in ((0, "a"), (2, "c"), (4, "e"))
    ]
    assert len(dataset.classes) == 5, "classes keep their numbers"


def test_nothing_left_is_an_error(folder):
    with pytest.raises(DatasetError, match="each of its 5 images is smaller than 100 px"):
        open_dataset(entry(folder, "discard"), "train", 100)


def test_an_unreadable_header_names_the_file(folder):
    replicas.write(folder / "train" / "f.jpg", b"")
    with pytest.raises(DatasetError, match=r"f\.jpg: cannot be read as an image \(the file is empty\)"):
        image_sizes(index_split(entry(folder), "train"))


@pytest.mark.parametrize("ending", ["zip", "deflated.zip", "folder"])
def test_only_the_beginnings_of_large_files_are_read(tmp_path, monkeypatch, ending):
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "large.png")
    members = {"train/large.png": (tmp_path / "large.png").read_bytes()}
    path = tmp_path / f"mine.{ending}"
    if ending == "folder":
        replicas.write(path / "train" / "large.png", *members.values())
    else:
        replicas.zipped(path, members, zipfile.ZIP_DEFLATED if "deflated" in ending else zipfile.ZIP_STORED)
    samples = index_split(entry(path), "train")
    assert samples.sizes[0] > module.BEGINNING
    monkeypatch.setattr(type(samples.files), "read", lambda *_: pytest.fail("read as a whole"))
    assert image_sizes(samples).tolist() == [[400, 300]]


def test_a_header_behind_much_else_is_found(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    (tmp_path / "train").mkdir()
    image.save(tmp_path / "train" / "a.jpg", icc_profile=bytes(200_000))
    assert image_sizes(index_split(entry(tmp_path), "train")).tolist() == [[400, 300]]


def test_imagenet_without_small_images_leaves_them_out_of_training_alone(tmp_path):
    """The published numbers of images are counted before any is left out."""
    replicas.imagenet_folders(tmp_path)
    large = [(wnid, names[1]) for wnid, names in replicas.TRAIN.items()]
    for wnid, name in large:
        replicas.write(tmp_path / "train" / wnid / name, replicas.encoded(name, (40, 32)))
    counted = ExpectedImages(train=9, validation=5)
    found = {
        name: Config().entry("datasets", name).model_copy(update={"path": str(tmp_path), "expected_images": counted})
        for name in ("imagenet", "imagenet-without-small-images")
    }
    everything, without = (open_dataset(each, "train", 32) for each in found.values())
    assert (len(everything), everything.enlarged(), without.enlarged()) == (9, 6, 0)
    assert names(without) == [f"{wnid}/{name}" for wnid, name in large]
    assert [without.label(index) for index in range(3)] == [0, 1, 2]
    validation = [open_dataset(each, "validation", 32) for each in found.values()]
    assert len({each.fingerprint for each in validation}) == 1 and len(validation[0]) == 5
    rows = [caption_rows(each, "train", 32) for each in found.values()]
    assert rows[0] is None and [names(everything)[row] for row in rows[1]] == names(without)
