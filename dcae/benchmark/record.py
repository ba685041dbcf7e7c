# SPDX-License-Identifier: Apache-2.0
"""Records: one JSON file per cell, with the measured values, their protocol and their provenance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from dcae.files import replacing

SCHEMA_VERSION = 1
DISAGREEMENT = 0.05  # largest difference of repeats, as a share of the value


def _json_number(number: float) -> float | str:
    """JSON has no infinity; the PSNR of identical images needs one."""
    return number if math.isfinite(number) else str(number)


def _is_number(number: float) -> float:
    if math.isnan(number):
        raise ValueError("is not a number")
    return number


class RecordError(ValueError):
    """A file is no record; the message names it."""


Number = Annotated[float, PlainSerializer(_json_number, when_used="json")]


class Value(BaseModel):
    """A measured number, its number of samples, and its standard error where there is one.

    ``leave_group_out``: for distances between sets, the value without the images i with i mod G = g, for
    g = 0 … G - 1; two values over the same images are compared by these (delete-a-group jackknife).
    ``unchanged``: of a mean over images, the number of images whose value is infinite since they came back unchanged;
    the mean and its error are those of the others.
    ``repeats``: the value of each repeat of the measurement; ``extrapolated``: computed from smaller measurements.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Annotated[Number, AfterValidator(_is_number)]
    n: int = Field(ge=0)
    standard_error: Annotated[Number, AfterValidator(_is_number), Field(ge=0)] | None = None
    unit: str = ""
    random_features: bool = False
    unchanged: int = Field(0, ge=0)
    leave_group_out: list[Number] | None = None
    repeats: list[Number] = []
    extrapolated: bool = False

    @property
    def spread(self) -> float:
        """Return the range of the repeats as a share of the value; 0 if it was measured once."""
        return (max(self.repeats) - min(self.repeats)) / self.value if len(self.repeats) > 1 and self.value else 0.0

    @property
    def is_unsteady(self) -> bool:
        """Return whether repeats differ by more than 5 %: the device was not quiet."""
        return self.spread > DISAGREEMENT


class Measured(BaseModel):
    """Values of a cell by one protocol; ``excluded``: values that could not be measured, with the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: dict[str, Any]
    protocol_fingerprint: str
    values: dict[str, Value]
    excluded: dict[str, str] = {}


class Provenance(BaseModel):
    """Provenance of a record. Hashes are sha256.

    ``results_version``: version of the step's results (``RESULTS_VERSION`` beside its code). ``code_digest``: digest of
    the project's sources; it tells two records' code apart and decides nothing.
    ``hub_commits``: for input files that came from a hub, the commit of the repository, where it is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    created: str
    version: str
    git_commit: str | None
    git_dirty: bool | None
    command: str
    config_digest: str
    results_version: int = 1
    code_digest: str
    inputs: dict[str, str]
    hub_commits: dict[str, str] = {}
    packages: dict[str, str]
    python: str
    platform: str
    seed: int
    wall_seconds: float


class Record(BaseModel):
    """One cell's result. ``number_class``: re-evaluated = released weights, reproduced = trained here.

    ``values`` were measured by ``protocol``; ``excluded``: values that could not be measured, with the reason. Values
    of additional protocols, measured in the same pass, are under their names in ``further``.
    ``dataset_fingerprint``: fingerprint of the images that were reconstructed, or that samples were compared with.
    ``conditions``: of a measurement of speed, such as batch sizes, clocks and temperature. ``latent_channels``: mean
    and standard deviation of each channel of the latents. ``prompts``: class or text of each saved sample of a
    conditional diffusion model. ``remarks``: notes for the reader about a value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["reconstruction", "generation", "efficiency"]
    number_class: Literal["re-evaluated", "reproduced", "control"]
    cell: dict[str, Any]
    values: dict[str, Value]
    protocol: dict[str, Any]
    protocol_fingerprint: str
    dataset_fingerprint: str | None = None
    excluded: dict[str, str] = {}
    further: dict[str, Measured] = {}
    device: dict[str, Any]
    provenance: Provenance
    conditions: dict[str, Any] = {}
    latent_channels: dict[Literal["mean", "std"], list[Number]] = {}
    prompts: list[str] = []
    remarks: list[str] = []

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read one record.

        Raises:
            RecordError: the file is missing or damaged, of another version, or holds impossible values.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_each_once)
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {first['msg']}" if place else first["msg"]
            if isinstance(content, dict) and content.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
                reason = f"it has schema version {content['schema_version']!r}, of another version of dcae"
        except (OSError, ValueError, RecursionError) as error:
            reason = str(error)
        raise RecordError(
            f"{path} is not a record of schema version {SCHEMA_VERSION}: {reason}; remove it and run again"
        )


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, whose keys have to be different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def write_atomically(path: Path, text: str) -> None:
    """Write text by a temporary file and a rename; a file that holds this text already is left alone."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def schema() -> str:
    """Return the JSON Schema of a record, as published in ``docs/record.schema.json``."""
    return json.dumps(Record.model_json_schema(mode="serialization"), indent=1) + "\n"
