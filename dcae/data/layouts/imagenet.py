# SPDX-License-Identifier: Apache-2.0
"""ImageNet-1k in its three layouts; the images, their order and their labels are the same in each.

- ``folders``: ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, as torchvision and most trainings have it;
- ``kaggle``: ``ILSVRC/Data/CLS-LOC/train/n01440764/*.JPEG``, ``ILSVRC/Data/CLS-LOC/val/*.JPEG`` without sub-folders,
  and the classes of these in ``LOC_val_solution.csv``;
- ``archives``: the official ``ILSVRC2012_img_train.tar`` (a tar per class), ``ILSVRC2012_img_val.tar`` and
  ``ILSVRC2012_devkit_t12.tar.gz``, which has the validation labels.

Classes are WordNet ids in alphabetical order, which are the labels of torchvision, ADM, DiT and all released models.
The devkit's own numbering is another one.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from dcae.benchmark.entries import ImageNetEntry
from dcae.data.errors import DatasetError
from dcae.data.layouts.any_folder import select_folder
from dcae.data.selection import Selection
from dcae.data.storage.archives import ArchiveFiles
from dcae.data.storage.files import Files
from dcae.data.storage.places import open_files, read_side_file

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
KAGGLE, SOLUTION = "ILSVRC/Data/CLS-LOC", "LOC_val_solution.csv"
LAYOUTS = {
    "folders": ("train/ and val/", "train", "val"),
    "kaggle": (f"{KAGGLE}/ and {SOLUTION}", KAGGLE),
    "archives": (f"{TRAIN_TAR}, {VALIDATION_TAR} and {DEVKIT}", TRAIN_TAR, VALIDATION_TAR),
}
"""Layout to what it consists of, and to what it is known by."""

Split = Literal["train", "validation"]


def select_imagenet(entry: ImageNetEntry, split: Split, refresh: bool = False) -> Selection:
    """The images of a split.

    Raises:
        DatasetError: no layout is found; a file is missing; a validation image has no class.
    """
    path = Path(entry.path).expanduser()
    layout = entry.layout or _found_layout(path)
    if layout == "folders":
        return select_folder(path / ("train" if split == "train" else "val"), refresh)
    if layout == "kaggle":
        if split == "train":
            return select_folder(path / KAGGLE / "train", refresh)
        return _labelled(open_files(path / KAGGLE / "val", refresh), _kaggle_classes(path / SOLUTION))
    if split == "train":
        return _of_class_tars(ArchiveFiles([path / TRAIN_TAR], nested=True, refresh=refresh))
    return _labelled(ArchiveFiles([path / VALIDATION_TAR], refresh=refresh), _devkit_classes(path / DEVKIT))


def _found_layout(path: Path) -> str:
    """The first layout of which something is there; which one it is changes nothing."""
    if path.suffix.lower() == ".zip" and path.is_file():
        return "kaggle"
    for layout, (_, *marks) in LAYOUTS.items():
        if any((path / mark).exists() for mark in marks):
            return layout
    expected = "; ".join(f"{what} (layout {layout})" for layout, (what, *_) in LAYOUTS.items())
    raise DatasetError(
        f"{path.absolute()}: no ImageNet there; expected one of: {expected}; put it there, or correct `path`"
    )


def _of_class_tars(files: ArchiveFiles) -> Selection:
    wnids = [name.partition("/")[0] for name in files.names.to_pylist()]
    classes = list(dict.fromkeys(wnids))  # files are sorted by class
    number = {wnid: label for label, wnid in enumerate(classes)}
    labels = np.array([number[wnid] for wnid in wnids], np.int64)
    return Selection(files, np.arange(len(files)), files.names, labels, classes)


def _labelled(files: Files, class_of: dict[str, str]) -> Selection:
    """The images of one folder or tar, sorted by class and name as if each class had a folder."""
    names = files.names.to_pylist()
    for number, name in enumerate(names):
        if Path(name).stem not in class_of:
            raise DatasetError(f"{files.where(number)}: no label is known of it; remove it, or get the labels again")
    if missing := sorted(set(class_of) - {Path(name).stem for name in names}):
        raise DatasetError(
            f"{files.root}: {len(missing)} images with a label are missing, {missing[0]} first; get the images again"
        )
    wnids = [class_of[Path(name).stem] for name in names]
    order = sorted(range(len(names)), key=lambda number: (wnids[number], names[number]))
    classes = sorted(set(class_of.values()))
    labels = {wnid: label for label, wnid in enumerate(classes)}
    return Selection(
        files,
        np.array(order, np.int64),
        pa.array([f"{wnids[number]}/{names[number]}" for number in order], pa.string()),
        np.array([labels[wnids[number]] for number in order], np.int64),
        classes,
    )


def _kaggle_classes(path: Path) -> dict[str, str]:
    """Validation image to its WordNet id: each row is ``ILSVRC2012_val_00048981,n03995372 85 1 499 272 …``."""
    text = read_side_file(path, "the classes of the validation images").decode()
    rows = list(csv.reader(io.StringIO(text)))[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != 2 or not re.match(r"n\d{8}( |$)", row[1]):
            raise DatasetError(f"{path}: line {number} is {row}, expected an image and n followed by 8 digits")
    return {image: prediction.split()[0] for image, prediction in rows}


def _devkit_classes(path: Path) -> dict[str, str]:
    """As ``_kaggle_classes``, from the devkit: line i of the ground truth is the class number of validation image i."""
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
        raise DatasetError(f"{path}: is not the devkit archive of ILSVRC 2012 ({error}); get it again") from error
    wnids = _wnids(meta)
    found = {}
    for number, line in enumerate(truth.decode().split(), start=1):
        if not line.isdecimal() or int(line) not in wnids:
            raise DatasetError(
                f"{path}: line {number} of the validation ground truth is {line!r}, which is no class of its meta.mat "
                f"(1 to {max(wnids)}); get it again"
            )
        found[f"ILSVRC2012_val_{number:08}"] = wnids[int(line)]
    return found


def _wnids(meta: bytes) -> dict[int, str]:
    """The devkit's class number to its WordNet id; higher ones are groups of classes, which have children."""
    import scipy.io

    synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {
        int(synset["ILSVRC2012_ID"]): str(synset["WNID"])
        for synset in np.atleast_1d(synsets)
        if int(synset["num_children"]) == 0
    }
