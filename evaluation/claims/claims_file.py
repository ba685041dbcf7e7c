# SPDX-License-Identifier: Apache-2.0
"""Fields of ``config/claims.yaml``: the paper's claims as comparisons of records."""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, TypeAdapter, model_validator

from dcae.benchmark.benchmark_file import StudyName
from dcae.benchmark.config import read_yaml, validate
from dcae.benchmark.entries.base import Settings
from evaluation.published import PUBLISHED_FOLDER
from evaluation.tables.rows import TableCell

CLAIMS_FILE = PUBLISHED_FOLDER.parent / "claims.yaml"
SIZE = re.compile(r"(ratio|difference|value) (above|below|within) (-?[\d.]+)")


@dataclass(frozen=True)
class Size:
    """The effect that counts as reproduced, such as "ratio below 0.8"; ``within`` 0.1: from 0.9 to 1.1."""

    scale: Literal["ratio", "difference", "value"]
    relation: Literal["above", "below", "within"]
    threshold: float

    @property
    def accepted(self) -> tuple[float, float]:
        """The least and the greatest effect that count."""
        if self.relation == "within":
            centre = 1.0 if self.scale == "ratio" else 0.0
            return centre - self.threshold, centre + self.threshold
        return (self.threshold, math.inf) if self.relation == "above" else (-math.inf, self.threshold)

    def verdict(self, low: float, high: float) -> Literal["held", "not held", "undecided"]:
        """Judge an interval: wholly inside of what counts, wholly outside, or neither."""
        least, greatest = self.accepted
        if least <= low and high <= greatest:
            return "held"
        return "not held" if high < least or low > greatest else "undecided"

    def __str__(self) -> str:
        return f"{self.scale} {self.relation} {self.threshold:g}"


def _size(text: Any) -> Any:
    found = SIZE.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise ValueError('expected "ratio", "difference" or "value", then "above", "below" or "within", then a number')
    return Size(found[1], found[2], float(found[3]))


Sizes = dict[str, Annotated[Size, BeforeValidator(_size)]]


class Side(Settings):
    """Rows of one side of a comparison, by what they are; fields that are not given may be anything."""

    family: str | None = None
    f: PositiveInt | None = None
    group: Literal["autoencoders", "ablations", "bases"] | None = None
    role: Literal["base", "variant"] | None = Field(None, description="in the study of the claim")
    residual_shortcuts: bool | None = None
    high_resolution_phase: Literal["middle", "all", "none"] | None = None
    gan: Literal["all", "decoder-head", "none"] | None = None
    name: str | None = Field(None, description="pattern of the entry's name")
    without_name: str | None = Field(None, description="pattern of names that are left out")
    paper_name: str | None = Field(None, description="of the autoencoder in the published rows")
    model: str | None = Field(None, description="name of the diffusion model in the paper")
    patch_size: PositiveInt | None = None
    table: PositiveInt | None = None
    resolution: Literal["lowest", "highest"] | None = Field(
        None, description="of the dataset; the sides may have different ones"
    )

    def matches(self, cell: TableCell, study: str | None, bases: frozenset[str]) -> bool:
        """Return whether a cell is of this side; ``bases``: of the study."""
        of_cell = {
            "family": cell.family,
            "f": cell.spatial_compression,
            "group": cell.group,
            "residual_shortcuts": cell.residual_shortcuts,
            "high_resolution_phase": cell.high_resolution_phase,
            "gan": cell.gan,
            "paper_name": cell.autoencoder_paper_name,
            "model": cell.diffusion_paper_name,
            "patch_size": cell.patch_size,
        }
        if any(getattr(self, name) not in (None, value) for name, value in of_cell.items()):
            return False
        if cell.group == "controls" or (self.table and self.table not in cell.tables):
            return False
        if self.name and not fnmatch.fnmatchcase(cell.autoencoder, self.name):
            return False
        if self.without_name and fnmatch.fnmatchcase(cell.autoencoder, self.without_name):
            return False
        return {"base": cell.autoencoder in bases, "variant": cell.study == study, None: True}[self.role]


class PublishedRow(Settings):
    """A published number, by its row; what is not given is that of the cell, or what the table has alone."""

    table: str
    autoencoder: str
    resolution: PositiveInt | None = None
    column: str | None = Field(None, description="default: the metric's, or else rfid")


class PublishedPair(Settings):
    """The published numbers of both sides."""

    a: PublishedRow
    b: PublishedRow | None = None


class Compared(Settings):
    """Two sides, or one whose value is judged alone; ``metrics`` in the place of the claim's."""

    a: Side
    b: Side | None = None
    metrics: Sizes | None = None
    published: PublishedPair | None = None


class Claim(Settings):
    """A claim of the paper."""

    id: str
    claim: str
    place: str = Field(description="in the paper")
    topic: str
    measures: Literal["reconstruction", "diffusion", "autoencoder", "phases"] = Field(
        "reconstruction", description="kind of the rows; autoencoder and phases are of dcae profile-suite"
    )
    study: StudyName | None = Field(None, description="both sides are of it, and share its base")
    at: Literal["lowest", "highest", "every"] = "every"
    same: list[Literal["f", "c", "autoencoder", "model", "patch_size", "tokens", "device"]] = Field(
        [], description="fields in which both sides agree, besides data, resolution and base"
    )
    seeds: PositiveInt = Field(1, description="trainings of either side below which it is undecided")
    complete: bool = Field(False, description="undecided while one of its comparisons was not tested")
    metrics: Sizes = Field(min_length=1)
    comparisons: list[Compared] = Field(min_length=1)

    @model_validator(mode="after")
    def _roles_need_a_study(self):
        sides = [side for each in self.comparisons for side in (each.a, each.b) if side]
        if self.study is None and any(side.role for side in sides):
            raise ValueError("a side has a role, so study is needed")
        return self


class ClaimsFile(Settings):
    """The YAML of claims, which is a list."""

    claims: list[Claim]

    @model_validator(mode="after")
    def _each_id_once(self):
        ids = [claim.id for claim in self.claims]
        repeated = sorted({each for each in ids if ids.count(each) > 1})
        if repeated:
            raise ValueError(f"ids that are given more than once: {', '.join(repeated)}")
        return self


def read_claims(path: Path = CLAIMS_FILE) -> list[Claim]:
    """Read the claims.

    Raises:
        ConfigError: naming the file, the field and what is expected.
    """
    return validate(TypeAdapter(ClaimsFile), read_yaml(path), path).claims
