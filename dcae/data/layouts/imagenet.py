# SPDX-License-Identifier: Apache-2.0
"""ImageNet-1k in its three layouts, with the same images, order and labels in each.

- ``folders``: ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, as torchvision expects them;
- ``kaggle``: ``ILSVRC/Data/CLS-LOC/train/n01440764/*.JPEG``, ``ILSVRC/Data/CLS-LOC/val/*.JPEG`` without sub-folders,
  with classes in ``LOC_val_solution.csv``;
- ``archives``: the official ``ILSVRC2012_img_train.tar`` (a tar per class), ``ILSVRC2012_img_val.tar`` and
  ``ILSVRC2012_devkit_t12.tar.gz``, which has the validation labels.

Labels are the WordNet ids in alphabetical order, as in torchvision, ADM, DiT and all released models. The devkit's own
numbering differs.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from dcae.benchmark.entries import ImageNetEntry
from dcae.data.layouts.any_folder import index_folder
from dcae.data.split_index import Split, SplitIndex
from dcae.data.storage.archives import ArchiveFiles, open_files, read_side_file
from dcae.data.storage.files import DatasetError, Files, expanded

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
KAGGLE, SOLUTION = "ILSVRC/Data/CLS-LOC", "LOC_val_solution.csv"
LAYOUTS = {
    "folders": ("train/ and val/", "train", "val"),
    "kaggle": (f"{KAGGLE}/ and {SOLUTION}", KAGGLE),
    "archives": (f"{TRAIN_TAR}, {VALIDATION_TAR} and {DEVKIT}", TRAIN_TAR, VALIDATION_TAR),
}
"""For each layout: its description, then the files or folders it is recognised by."""


def index_imagenet(entry: ImageNetEntry, split: Split, refresh: bool = False) -> SplitIndex:
    """Index the images of a split.

    Raises:
        DatasetError: no layout is found, a file is missing, or a validation image has no class.
    """
    path = expanded(entry.path)
    layout = entry.layout or _found_layout(path)
    if layout == "folders":
        return index_folder(path / ("train" if split == "train" else "val"), refresh)
    if layout == "kaggle":
        if split == "train":
            return index_folder(path / KAGGLE / "train", refresh)
        return _labelled(open_files(path / KAGGLE / "val", refresh), _kaggle_classes(path / SOLUTION))
    if split == "train":
        return _of_class_tars(ArchiveFiles([path / TRAIN_TAR], nested=True, refresh=refresh))
    return _labelled(ArchiveFiles([path / VALIDATION_TAR], refresh=refresh), _devkit_classes(path / DEVKIT))


def _found_layout(path: Path) -> str:
    """Return the first layout that is there; all have the same images."""
    if path.suffix.lower() == ".zip" and path.is_file():
        return "kaggle"
    for layout, (_, *marks) in LAYOUTS.items():
        if any((path / mark).exists() for mark in marks):
            return layout
    expected = "; ".join(f"{files} (layout {layout})" for layout, (files, *_) in LAYOUTS.items())
    raise DatasetError(
        f"{path.absolute()}: no ImageNet there; expected one of: {expected}; put it there, or correct `path`"
    )


def _of_class_tars(files: ArchiveFiles) -> SplitIndex:
    wnids = [name.partition("/")[0] for name in files.names.to_pylist()]
    classes = list(dict.fromkeys(wnids))  # files are sorted by class
    number = {wnid: label for label, wnid in enumerate(classes)}
    labels = np.array([number[wnid] for wnid in wnids], np.int64)
    return SplitIndex(files, np.arange(len(files)), files.names, labels, classes)


def _labelled(files: Files, class_of: dict[str, str]) -> SplitIndex:
    """Index the images of one folder or tar, sorted by class and name as if each class had a folder."""
    names = files.names.to_pylist()
    for number, name in enumerate(names):
        if Path(name).stem not in class_of:
            raise DatasetError(f"{files.where(number)}: has no label; remove it, or download the labels again")
    if missing := sorted(set(class_of) - {Path(name).stem for name in names}):
        raise DatasetError(
            f"{files.root}: {len(missing)} labelled images are missing, first {missing[0]}; download the images again"
        )
    wnids = [class_of[Path(name).stem] for name in names]
    order = sorted(range(len(names)), key=lambda number: (wnids[number], names[number]))
    classes = sorted(set(class_of.values()))
    labels = {wnid: label for label, wnid in enumerate(classes)}
    return SplitIndex(
        files,
        np.array(order, np.int64),
        pa.array([f"{wnids[number]}/{names[number]}" for number in order], pa.string()),
        np.array([labels[wnids[number]] for number in order], np.int64),
        classes,
    )


def _kaggle_classes(path: Path) -> dict[str, str]:
    """Map validation images to WordNet ids; a row is ``ILSVRC2012_val_00048981,n03995372 85 1 499 272 …``."""
    text = read_side_file(path, "the classes of the validation images").decode()
    rows = list(csv.reader(io.StringIO(text)))[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != 2 or not re.match(r"n\d{8}( |$)", row[1]):
            raise DatasetError(f"{path}: line {number} is {row}, expected an image and n followed by 8 digits")
    return {image: prediction.split()[0] for image, prediction in rows}


def _devkit_classes(path: Path) -> dict[str, str]:
    """As ``_kaggle_classes``, from the devkit: line i of the ground truth is the devkit number of image i's class."""
    if not path.is_file():
        raise DatasetError(f"{path.absolute()}: missing, needed for the classes of the validation images; put it there")
    folder = path.name.removesuffix(".tar.gz")
    try:
        with tarfile.open(path) as archive:
            truth, meta = (
                archive.extractfile(f"{folder}/data/{name}").read()
                for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat")
            )
    except (tarfile.TarError, KeyError, AttributeError, OSError, EOFError) as error:
        raise DatasetError(f"{path}: is not the devkit archive of ILSVRC 2012 ({error}); download it again") from error
    wnids = _wnids(meta)
    found = {}
    for number, line in enumerate(truth.decode().split(), start=1):
        if not line.isdecimal() or int(line) not in wnids:
            raise DatasetError(
                f"{path}: line {number} of the validation ground truth is {line!r}, which is no class of its meta.mat "
                f"(1 to {max(wnids)}); download it again"
            )
        found[f"ILSVRC2012_val_{number:08}"] = wnids[int(line)]
    return found


def _wnids(meta: bytes) -> dict[int, str]:
    """Map devkit class numbers to WordNet ids, without the groups of classes, which have children."""
    import scipy.io

    synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {
        int(synset["ILSVRC2012_ID"]): str(synset["WNID"])
        for synset in np.atleast_1d(synsets)
        if int(synset["num_children"]) == 0
    }
