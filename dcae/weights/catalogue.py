# SPDX-License-Identifier: Apache-2.0
"""Weight files of feature networks: location, sha256 and source, from ``config/weights.yaml``.

``DCAE_WEIGHTS_CATALOGUE`` replaces that file by another one. Imports no torch, for the command line.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml, validate
from dcae.files import sha256

CATALOGUE = REPOSITORY_CONFIG / "weights.yaml"
ENVIRONMENT = "DCAE_WEIGHTS_CATALOGUE"


class WeightsError(RuntimeError):
    """A weight file is missing, or its content is not the expected one."""


class WeightFile(BaseModel):
    """One file of the catalogue.

    ``sha256`` may be a prefix of at least eight digits where no more is published, and ``None`` where none is: the file
    is rejected until a user enters it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[^/\\]+$")
    folder: str | None = Field(None, description="of a file in the repository, relative to it; default: weights_dir")
    sha256: str | None = Field(pattern=r"^[0-9a-f]{8,64}$")
    used_for: str
    source: str
    licence: str


class Catalogue(BaseModel):
    """``config/weights.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_dir: str
    files: dict[str, WeightFile]


def weights_dir(catalogue: Path | None = None) -> Path:
    """Return the folder of all weight files; released models are in it under their hub ids (``owner/name``)."""
    return _read(catalogue)[1]


def expected_sha256(name: str, catalogue: Path | None = None) -> str | None:
    """Return the catalogue's sha256 of a weight file, whether the file exists or not; ``None`` if it has none.

    Raises:
        WeightsError: unknown name.
    """
    return _entry(name, catalogue)[0].sha256


def weight_file(name: str, catalogue: Path | None = None) -> Path:
    """Return where a weight file is looked for, whether it is there or not.

    Raises:
        WeightsError: unknown name.
    """
    wanted, folder, _ = _entry(name, catalogue)
    return folder / wanted.file


def find(name: str, catalogue: Path | None = None) -> Path:
    """Return the path of a weight file after verifying its sha256.

    Args:
        catalogue: defaults to ``DCAE_WEIGHTS_CATALOGUE`` or else ``config/weights.yaml``, looked up at each call.

    Raises:
        WeightsError: unknown name, missing file, or wrong content; names purpose, source and location of the file.
    """
    wanted, folder, catalogue = _entry(name, catalogue)
    path = folder / wanted.file
    if not path.is_file():
        raise WeightsError(
            f"missing weights {name!r} ({wanted.used_for}): get {wanted.source} and put it at {path}, "
            f"or set weights_dir in {catalogue} to the folder that holds {wanted.file}"
        )
    actual = sha256(path)
    if wanted.sha256 is None:
        raise WeightsError(
            f"{path} has sha256 {actual}, and {catalogue} has no sha256 for it: compare it with the one shown "
            f"at {wanted.source} and enter it as sha256 of {name}"
        )
    if not actual.startswith(wanted.sha256):
        raise WeightsError(
            f"{path} has sha256 {actual}, expected {wanted.sha256}: a partial download or another file; "
            f"remove it and get {wanted.source}"
        )
    return path


def _read(catalogue: Path | None) -> tuple[Catalogue, Path, Path]:
    """Return the catalogue, its weights folder, and its own path."""
    path = Path(catalogue or os.environ.get(ENVIRONMENT) or CATALOGUE)
    content: Catalogue = validate(TypeAdapter(Catalogue), read_yaml(path), path)
    return content, (path.parent.parent / content.weights_dir).resolve(), path


def _entry(name: str, catalogue: Path | None) -> tuple[WeightFile, Path, Path]:
    """Return a file's entry, the weights folder, and the catalogue's path."""
    content, folder, path = _read(catalogue)
    if name not in content.files:
        raise WeightsError(f"{path} has no weights named {name!r}; known: {', '.join(content.files)}")
    wanted = content.files[name]
    return wanted, REPOSITORY_CONFIG.parent / wanted.folder if wanted.folder else folder, path
