# SPDX-License-Identifier: Apache-2.0
"""ImageNet: three layouts, one dataset."""

import zipfile
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder, ImageNet
from torchvision.datasets import imagenet as torchvision_imagenet

from dcae.benchmark.entries import (
    ImageNetEntry,
)
from dcae.data.layouts.index import index_split
from dcae.data.loading import open_dataset
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import DatasetError
from dcae.data.storage.folders import FolderFiles
from tests.data import replicas

SPLITS = ("train", "validation")


def imagenet(path, **fields):
    return ImageNetEntry(kind="imagenet", name="imagenet", path=str(path), **fields)


@pytest.mark.parametrize("layout", replicas.IMAGENET)
@pytest.mark.parametrize("split", SPLITS)
def test_every_layout_of_imagenet_is_torchvisions_in_order_labels_and_bytes(tmp_path, layout, split):
    folders = replicas.imagenet_folders(tmp_path / "folders")
    reference = ImageFolder(folders / ("train" if split == "train" else "val"))
    path = folders if layout == "folders" else replicas.IMAGENET[layout](tmp_path / layout)
    found = index_split(imagenet(path), split)
    assert found.names.to_pylist() == ["/".join(path.split("/")[-2:]) for path, _ in reference.samples]
    assert found.labels.tolist() == reference.targets
    assert found.classes == reference.classes == sorted(replicas.SYNSETS)
    for index, (path, _) in enumerate(reference.samples):
        assert found.read(index) == Path(path).read_bytes()


def test_the_tar_files_are_read_as_torchvision_unpacks_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_imagenet, "_verify_archive", lambda *_: None)  # by the md5 of the real ones
    replicas.imagenet_archives(tmp_path)
    packed = {split: index_split(imagenet(tmp_path), split) for split in SPLITS}
    unpacked = ImageNet(tmp_path, split="train"), ImageNet(tmp_path, split="val")
    for samples, reference in zip(packed.values(), unpacked, strict=True):
        assert samples.labels.tolist() == reference.targets and samples.classes == reference.wnids
        for index, (path, _) in enumerate(reference.samples):
            assert samples.names[index].as_py() == "/".join(path.split("/")[-2:])
            assert samples.read(index) == Path(path).read_bytes()


def test_imagenet_has_one_fingerprint_in_all_its_layouts(tmp_path):
    entries = [imagenet(make(tmp_path / layout)) for layout, make in replicas.IMAGENET.items()]
    for split in SPLITS:
        assert len({open_dataset(entry, split, 8).fingerprint for entry in entries}) == 1


def test_kaggles_zip_file_is_read_as_it_is(tmp_path):
    root = replicas.imagenet_kaggle(tmp_path / "kaggle")
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    path = replicas.zipped(tmp_path / "imagenet-object-localization-challenge.zip", files, zipfile.ZIP_DEFLATED)
    for split in SPLITS:
        one, other = (open_dataset(imagenet(each), split, 8) for each in (root, path))
        assert one.fingerprint == other.fingerprint
        assert (one.batch(range(len(one))) == other.batch(range(len(other)))).all()


def test_of_layouts_beside_each_other_the_first_counts_unless_the_entry_says_otherwise(tmp_path):
    replicas.imagenet_archives(replicas.imagenet_folders(tmp_path))  # as torchvision leaves it after unpacking
    assert isinstance(index_split(imagenet(tmp_path), "train").files, FolderFiles)
    assert isinstance(index_split(imagenet(tmp_path, layout="archives"), "train").files, ArchiveFiles)


def test_missing_imagenet_tells_every_layout(tmp_path):
    with pytest.raises(DatasetError, match=rf"{tmp_path}: no ImageNet there; .*folders.*kaggle.*archives.*`path`"):
        index_split(imagenet(tmp_path), "train")


def test_incomplete_imagenet_is_refused(tmp_path):
    replicas.imagenet_folders(tmp_path)
    entry = imagenet(tmp_path, expected_images={"train": 1281167, "validation": 5})
    assert len(index_split(entry, "validation")) == 5
    with pytest.raises(DatasetError, match=r"9 train images .* expected 1,281,167; get the missing images"):
        index_split(entry, "train")


def test_validation_images_without_label_and_labels_without_image_are_refused(tmp_path):
    replicas.imagenet_kaggle(tmp_path)
    folder = tmp_path / "ILSVRC/Data/CLS-LOC/val"
    replicas.write(folder / "other.JPEG", replicas.encoded("other"))
    with pytest.raises(DatasetError, match=r"other\.JPEG: has no label"):
        index_split(imagenet(tmp_path), "validation")
    (folder / "other.JPEG").unlink()
    (folder / replicas.validation_name(3)).unlink()
    with pytest.raises(DatasetError, match="1 labelled images are missing, first ILSVRC2012_val_00000003"):
        index_split(imagenet(tmp_path), "validation")


@pytest.mark.parametrize("row", ["ILSVRC2012_val_00000001,tench 1 2 3 4", "ILSVRC2012_val_00000001"])
def test_a_wrong_row_of_kaggles_labels_is_named(tmp_path, row):
    replicas.imagenet_kaggle(tmp_path)
    replicas.write(tmp_path / "LOC_val_solution.csv", f"ImageId,PredictionString\n{row}\n")
    with pytest.raises(DatasetError, match=r"LOC_val_solution\.csv: line 2 is .* expected an image and n followed"):
        index_split(imagenet(tmp_path), "validation")


@pytest.mark.parametrize("wrong", [0, 4, 1001])
def test_labels_of_the_devkit_out_of_range_are_refused(tmp_path, wrong):
    replicas.imagenet_archives(tmp_path)
    replicas.write(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", replicas.imagenet_devkit([1, 2, wrong, 1, 3]))
    with pytest.raises(DatasetError, match=rf"line 3 of the validation ground truth is '{wrong}', .* \(1 to 3\)"):
        index_split(imagenet(tmp_path), "validation")


def test_missing_and_damaged_devkit(tmp_path):
    replicas.imagenet_archives(tmp_path)
    devkit = tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
    devkit.write_bytes(devkit.read_bytes()[:100])
    with pytest.raises(DatasetError, match=f"{devkit}: is not the devkit archive"):
        index_split(imagenet(tmp_path), "validation")
    devkit.unlink()
    with pytest.raises(DatasetError, match=f"{devkit}: missing, needed for the classes"):
        index_split(imagenet(tmp_path), "validation")
