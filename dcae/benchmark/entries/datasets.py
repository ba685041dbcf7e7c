# SPDX-License-Identifier: Apache-2.0
"""Dataset entries."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from dcae.benchmark.entries.base import Entry, Settings

SceneClass = Literal[
    "shapes", "stripes", "dots", "bricks", "gradient", "text", "face", "network", "clock", "flowers", "landscape",
    "skyline",
]  # fmt: skip


class ScenesEntry(Entry):
    """Procedural scenes: image ``i`` of a split is a pure function of (seed, split, i) at any resolution."""

    kind: Literal["scenes"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    classes: list[SceneClass] | None = Field(None, min_length=1, description="classes of scenes; default: all of them")
    train_images: PositiveInt
    validation_images: PositiveInt

    @field_validator("classes")
    @classmethod
    def _each_class_once(cls, classes: list[str] | None) -> list[str] | None:
        if classes and len(set(classes)) < len(classes):
            raise ValueError("each class once")
        return classes


class PhotographsEntry(Entry):
    """Crops of the photographs that scikit-image ships; training and validation pictures are disjoint."""

    kind: Literal["photographs"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    train_images: PositiveInt
    validation_images: PositiveInt


class ExpectedImages(Settings):
    """Number of images of each split; another number is an error."""

    train: PositiveInt | None = None
    validation: PositiveInt | None = None


class ImageFilesEntry(Entry):
    """Fields of every dataset of image files, whatever its layout (``dcae/data/layouts``)."""

    paper_name: str | None = None
    path: str = Field(description="folder of the dataset; a relative path starts at the current directory")
    smaller_images: Literal["upsample", "discard"] = Field(
        "upsample",
        description="training images whose short side is below the resolution: upsample or discard; validation images "
        "are always upsampled, as in the paper's protocol",
    )
    transparency: Literal["refuse", "drop", "white", "black"] = Field(
        "refuse",
        description="transparent pixels: an error, drop the alpha channel, or compose over white or black",
    )
    incomplete: Literal["refuse", "keep"] = Field(
        "refuse", description="JPEG files without an end marker: an error, or keep what can be read of them"
    )
    expected_images: ExpectedImages | None = None

    @field_validator("path")
    @classmethod
    def _path_is_possible(cls, path: str) -> str:
        try:
            os.stat(Path(path).expanduser())
        except RuntimeError as error:  # ~name
            raise ValueError(f"{error} Write the path out") from None
        except OSError as error:  # that it is missing is no matter before it is read
            if error.errno == errno.ENAMETOOLONG:
                raise ValueError("longer than paths can be here") from None
        return path


class FolderEntry(ImageFilesEntry):
    """Any folder of images, or zip file of one: ``path/train`` and ``path/validation``, sub-folders being classes."""

    kind: Literal["folder"]
    train: str = "train"
    validation: str = "validation"


class WebDatasetEntry(ImageFilesEntry):
    """WebDataset shards of images, with labels (``.cls``) and captions (``.txt``) if there are any."""

    kind: Literal["webdataset"]
    train: str = Field("train-*.tar", description="pattern of the shards' names below path")
    validation: str = Field("validation-*.tar", description="pattern of the shards' names below path")
    classes: PositiveInt = Field(1, description="labels are 0 to classes - 1; 1: labels are not read")


class ImageNetEntry(ImageFilesEntry):
    """ImageNet-1k as folders of classes, as Kaggle has it, or as the official tar files."""

    kind: Literal["imagenet"]
    layout: Literal["folders", "kaggle", "archives"] | None = Field(
        None, description="default: the first layout that is found"
    )


class FFHQEntry(ImageFilesEntry):
    """FFHQ at 1024 px in its official folders, with its official split."""

    kind: Literal["ffhq"]


class MapillaryVistasEntry(ImageFilesEntry):
    """Mapillary Vistas 1.2 or 2.0, whose images are the same."""

    kind: Literal["mapillary-vistas"]


class MJHQEntry(ImageFilesEntry):
    """MJHQ-30K: categories are classes, prompts are captions."""

    kind: Literal["mjhq-30k"]
    validation_per_category: PositiveInt | Literal["all"] = Field(
        300, description="images held out of training: those with the least sha256 of their id"
    )


class SA1BEntry(ImageFilesEntry):
    """SA-1B as its tar files."""

    kind: Literal["sa-1b"]
    validation_every: PositiveInt = Field(
        1000, description="images whose id is a multiple of this are held out of training"
    )


DatasetEntry = Annotated[
    ScenesEntry
    | PhotographsEntry
    | FolderEntry
    | WebDatasetEntry
    | ImageNetEntry
    | FFHQEntry
    | MapillaryVistasEntry
    | MJHQEntry
    | SA1BEntry,
    Field(discriminator="kind"),
]
