# SPDX-License-Identifier: Apache-2.0
"""Fields of a benchmark's YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from dcae.benchmark.config import split_seed
from dcae.benchmark.entries import Settings, WithChoices

# Studies that tables and figures show; "other" is for those that are not in the paper.
StudyName = Literal["shortcuts", "high-resolution", "gan", "kl", "blocks", "recipe", "tuned-layers", "other"]


class Study(Settings):
    """An autoencoder and its variants, each of which differs from it in one thing."""

    base: str = Field(description="entry that the variants are compared with")
    variants: dict[str, str] = Field(min_length=1, description="entry: its difference from the base")
    beside: dict[str, str] = Field(
        {},
        description="entry with a row in Table 2, shown with the study and compared with nothing: its role",
    )
    datasets: dict[str, list[PositiveInt]] | None = Field(
        None, description="dataset: resolutions, out of those under reconstruction; default: all of them"
    )

    def places(self, reconstruction: Mapping[str, Mapping[int, object]]) -> list[tuple[str, int]]:
        """Return dataset and resolution of its cells, given all of the benchmark's."""
        chosen = self.datasets if self.datasets is not None else reconstruction
        return [(dataset, resolution) for dataset, resolutions in chosen.items() for resolution in resolutions]


Studies = dict[StudyName, list[Study]]


def each_study(studies: Studies) -> Iterator[tuple[str, str, Study]]:
    """Yield each study with its field in the benchmark's file, for errors, and its name."""
    for name, groups in studies.items():
        for index, study in enumerate(groups):
            yield f"studies.{name}.{index}", name, study


def variants(studies: Studies) -> list[str]:
    """Return every variant, in the order of the file; one that is named twice comes twice."""
    return [variant for _, _, study in each_study(studies) for variant in study.variants]


def further_bases(studies: Studies, named: Sequence[str]) -> list[str]:
    """Return the bases that a benchmark names nowhere else; they are measured for their studies alone."""
    known = {*named, *variants(studies)}
    return list(dict.fromkeys(study.base for _, _, study in each_study(studies) if study.base not in known))


def membership(studies: Studies, autoencoder: str) -> dict[str, str | None]:
    """Return ``study``, ``base`` and ``differs`` of a variant of any seed; ``None`` each for any other autoencoder."""
    autoencoder, _ = split_seed(autoencoder)
    for _, name, study in each_study(studies):
        if autoencoder in study.variants:
            return {"study": name, "base": study.base, "differs": study.variants[autoencoder]}
    return {"study": None, "base": None, "differs": None}


def shown_beside(studies: Studies, autoencoder: str) -> tuple[tuple[str, str, str], ...]:
    """Return study, base and role for each study that an autoencoder is shown beside."""
    return tuple(
        (name, study.base, study.beside[autoencoder])
        for _, name, study in each_study(studies)
        if autoencoder in study.beside
    )


class PublishedTwin(Settings):
    """Published cell to compare with: its dataset and resolution in the paper."""

    dataset: str
    resolution: PositiveInt


class PublishedRows(PublishedTwin):
    """Published rows to compare the rows of a block with."""

    autoencoder: str | None = Field(
        None, description="name in the published rows if it differs from the entry's, for example DC-AE-f64†"
    )


class ReconstructionPlan(Settings):
    """Every autoencoder is measured on every dataset at every resolution here that it supports."""

    protocol: str
    additional_protocols: list[str] = Field([], description="additional protocols, measured in the same pass")
    datasets: dict[str, dict[PositiveInt, PublishedTwin | None]] = Field(
        description="dataset: resolution: the published cell to compare with, or null"
    )


class GenerationPlan(Settings):
    """One diffusion model on the latents of several autoencoders.

    ``patch_sizes`` maps a spatial compression to the patch sizes to run. Without ``autoencoders`` it runs on all under
    ``autoencoders`` of the benchmark whose compression has a patch size here, except those in ``without``.
    """

    diffusion: str
    dataset: str = Field(description="dataset that the diffusion model is trained on")
    evaluated_on: str | None = Field(
        None,
        description="dataset whose images and captions samples are compared with; default: the training dataset",
    )
    resolution: PositiveInt
    patch_sizes: dict[PositiveInt, list[PositiveInt]]
    autoencoders: list[str] | None = None
    new_autoencoders: bool = Field(
        False, description="those of `dcae run --with` as well, though autoencoders are named"
    )
    without: list[str] = Field([], description="autoencoders to leave out")
    control: bool = Field(False, description="rows stand under controls, such as those of an untrained denoiser")
    tables: list[Literal[1, 3, 4, 5]] = Field(description="tables of the paper that its cells belong to")
    published: PublishedRows | None = None
    generation_images: PositiveInt | None = Field(None, description="number of samples; default: the protocol's")

    @property
    def name(self) -> str:
        """Return its name in ``choices``, such as "dit-s on mjhq-30k (table 4)"."""
        return f"{self.diffusion} on {self.dataset} (table {', '.join(map(str, self.tables))})"


class BenchmarkFile(WithChoices):
    """The YAML of a benchmark."""

    description: str
    seed: int = Field(0, ge=0)
    recipes: dict[str, str] = Field({}, description="recipe of an entry: the recipe to use in its place")
    autoencoders: list[str] = Field(min_length=1, description="a row in every table")
    seeds: dict[str, list[NonNegativeInt]] = Field(
        {}, description="autoencoder: seeds of further trainings, measured as <autoencoder>@seed<N>"
    )
    reconstruction_only: list[str] = Field([], description="a row in Table 2 alone")
    studies: Studies = Field({}, description="autoencoders with one thing changed; reconstruction only")
    controls: list[str] = Field([], description="reconstruction only; their scores are known")
    reconstruction: ReconstructionPlan
    generation_protocol: str | None = None
    additional_generation_protocols: list[str] = Field([], description="additional protocols for the same samples")
    efficiency_protocol: str | None = None
    generation: list[GenerationPlan] = Field([], description="diffusion models on the latents of autoencoders")

    @model_validator(mode="after")
    def _generation_needs_protocols(self):
        if self.generation and not (self.generation_protocol and self.efficiency_protocol):
            raise ValueError("generation is given, so generation_protocol and efficiency_protocol are needed")
        if self.additional_generation_protocols and not self.generation_protocol:
            raise ValueError("additional_generation_protocols is given, so generation_protocol is needed")
        return self

    @model_validator(mode="after")
    def _each_name_once(self):
        names = [*self.with_rows, *variants(self.studies)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            fields = "autoencoders, reconstruction_only, controls and the variants of studies"
            raise ValueError(f"named more than once under {fields}: {', '.join(repeated)}")
        return self

    @property
    def with_rows(self) -> list[str]:
        """Return the autoencoders that are measured everywhere and have rows in Table 2."""
        return [*self.autoencoders, *self.reconstruction_only, *self.controls]
