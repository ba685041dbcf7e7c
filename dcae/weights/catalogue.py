# SPDX-License-Identifier: Apache-2.0
"""Weight files of feature networks: where they lie and what they must be, by ``config/weights.yaml``.

No torch here: the command line and the identities of results ask without opening any.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml, validate
from dcae.files import sha256

CATALOGUE = REPOSITORY_CONFIG / "weights.yaml"


class WeightsError(RuntimeError):
    """A weight file is missing or is not the file that it should be."""


class WeightFile(BaseModel):
    """One file of the catalogue.

    ``sha256`` may be a prefix of at least eight digits where no more is published, and ``None`` where the catalogue
    does not know any: a user has to enter it, and until then the file is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[^/\\]+$")
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
    """The folder of all weight files; released models lie in it under their hub ids (``owner/name``)."""
    catalogue = catalogue or CATALOGUE
    return _folder_of(validate(TypeAdapter(Catalogue), read_yaml(catalogue), catalogue), catalogue)


def _folder_of(content: Catalogue, catalogue: Path) -> Path:
    return (Path(catalogue).parent.parent / content.weights_dir).resolve()


def expected_sha256(name: str, catalogue: Path | None = None) -> str | None:
    """The sha256 that a weight file must have, whether it is there or not; ``None`` if the catalogue knows none.

    Raises:
        WeightsError: unknown name.
    """
    return _wanted(name, catalogue or CATALOGUE)[0].sha256


def _wanted(name: str, catalogue: Path) -> tuple[WeightFile, Path]:
    """What the catalogue says of a file, and the folder where it belongs."""
    content: Catalogue = validate(TypeAdapter(Catalogue), read_yaml(catalogue), catalogue)
    if name not in content.files:
        raise WeightsError(f"{catalogue} has no weights named {name!r}; known: {', '.join(content.files)}")
    return content.files[name], _folder_of(content, catalogue)


def find(name: str, catalogue: Path | None = None) -> Path:
    """Path of a weight file whose sha256 was just verified.

    Raises:
        WeightsError: unknown name, missing file, or wrong content; says what the file is for, where it comes from and
            where it belongs.
    """
    catalogue = catalogue or CATALOGUE
    wanted, folder = _wanted(name, catalogue)
    path = folder / wanted.file
    if not path.is_file():
        raise WeightsError(
            f"missing weights {name!r} ({wanted.used_for}): get {wanted.source} and put it at {path}, "
            f"or set weights_dir in {catalogue} to the folder that holds {wanted.file}"
        )
    actual = sha256(path)
    if wanted.sha256 is None:
        raise WeightsError(
            f"{path} has sha256 {actual}, and {catalogue} does not say what it should be: compare it with the one "
            f"shown at {wanted.source} and enter it as sha256 of {name}"
        )
    if not actual.startswith(wanted.sha256):
        raise WeightsError(
            f"{path} has sha256 {actual}, expected {wanted.sha256}: a partial download or another file; "
            f"remove it and get {wanted.source}"
        )
    return path
