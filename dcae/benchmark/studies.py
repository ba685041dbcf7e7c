# SPDX-License-Identifier: Apache-2.0
"""Studies of a benchmark: what becomes of an autoencoder if one thing of it, or of its training, differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, PositiveInt

from dcae.benchmark.entries import Settings

# What tables and figures know how to show; "other" is for what the paper does not study.
StudyName = Literal["shortcuts", "high-resolution", "gan", "kl", "blocks", "recipe", "tuned-layers", "other"]


class Study(Settings):
    """An autoencoder and its variants, each of which differs from it in one thing."""

    base: str = Field(description="entry that the variants are compared with")
    variants: dict[str, str] = Field(min_length=1, description="entry: in what it differs from the base")
    datasets: dict[str, list[PositiveInt]] | None = Field(
        None, description="data set: resolutions, out of those under reconstruction; by default all of them"
    )

    def places(self, reconstruction: Mapping[str, Mapping[int, object]]) -> list[tuple[str, int]]:
        """Data set and resolution of its cells, given all of the benchmark's."""
        chosen = self.datasets if self.datasets is not None else reconstruction
        return [(dataset, resolution) for dataset, resolutions in chosen.items() for resolution in resolutions]


Studies = dict[StudyName, list[Study]]


def each_study(studies: Studies) -> Iterator[tuple[str, str, Study]]:
    """Its field in the benchmark's file, for errors; its name; and the study."""
    for name, groups in studies.items():
        for index, study in enumerate(groups):
            yield f"studies.{name}.{index}", name, study


def variants(studies: Studies) -> list[str]:
    """Every variant, in the order of the file; one that is named twice comes twice."""
    return [variant for _, _, study in each_study(studies) for variant in study.variants]


def further_bases(studies: Studies, named: Sequence[str]) -> list[str]:
    """Bases that a benchmark names nowhere else: they are measured where their studies are, for these alone."""
    known = {*named, *variants(studies)}
    return list(dict.fromkeys(study.base for _, _, study in each_study(studies) if study.base not in known))


def membership(studies: Studies, autoencoder: str) -> dict[str, str | None]:
    """What a record's cell says of a variant: ``study``, ``base`` and ``differs``; ``None`` each of any other."""
    for _, name, study in each_study(studies):
        if autoencoder in study.variants:
            return {"study": name, "base": study.base, "differs": study.variants[autoencoder]}
    return {"study": None, "base": None, "differs": None}
