# SPDX-License-Identifier: Apache-2.0
"""Fields of a benchmark's YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

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


class PublishedTwin(Settings):
    """The published cell that stands beside a measured one: its data set and resolution in the paper."""

    dataset: str
    resolution: PositiveInt


class PublishedRows(PublishedTwin):
    """The published rows beside those of a block."""

    autoencoder: str | None = Field(
        None, description="how the rows name it if not as the entry does, for example DC-AE-f64† of a longer training"
    )


class ReconstructionPlan(Settings):
    """Every autoencoder is measured on every data set at every resolution named here, of those that it takes."""

    protocol: str
    further_protocols: list[str] = Field([], description="measured in the same pass, beside the main protocol")
    datasets: dict[str, dict[PositiveInt, PublishedTwin | None]] = Field(
        description="data set: resolution: the published cell beside it, or null"
    )


class GenerationPlan(Settings):
    """One diffusion model on the latents of several autoencoders.

    ``patch_sizes`` maps a spatial compression to the patch sizes to run. Without ``autoencoders`` it runs on all under
    ``autoencoders`` of the benchmark whose compression has a patch size here, except those in ``without``.
    """

    diffusion: str
    dataset: str = Field(description="what the diffusion model is trained on")
    evaluated_on: str | None = Field(
        None,
        description="data set whose images, and captions where the model has them, samples are measured against; "
        "default: the one trained on",
    )
    resolution: PositiveInt
    patch_sizes: dict[PositiveInt, list[PositiveInt]]
    autoencoders: list[str] | None = None
    without: list[str] = Field([], description="autoencoders to leave out")
    tables: list[int] = Field(description="tables of the paper that its cells belong to")
    published: PublishedRows | None = None
    generation_images: PositiveInt | None = Field(None, description="samples; default: as many as the protocol says")


class BenchmarkFile(Settings):
    """The YAML of a benchmark."""

    description: str
    seed: int = Field(0, ge=0)
    autoencoders: list[str] = Field(min_length=1, description="a row in every table")
    reconstruction_only: list[str] = Field([], description="a row in Table 2 alone")
    studies: Studies = Field({}, description="what becomes of an autoencoder if one thing differs; reconstruction only")
    controls: list[str] = Field([], description="reconstruction only; their scores are known")
    reconstruction: ReconstructionPlan
    generation_protocol: str | None = None
    further_generation_protocols: list[str] = Field([], description="of the same samples, beside generation_protocol")
    efficiency_protocol: str | None = None
    generation: list[GenerationPlan] = Field([], description="diffusion models on the latents of autoencoders")

    @model_validator(mode="after")
    def _generation_needs_protocols(self):
        if self.generation and not (self.generation_protocol and self.efficiency_protocol):
            raise ValueError("generation is given, so generation_protocol and efficiency_protocol are needed")
        if self.further_generation_protocols and not self.generation_protocol:
            raise ValueError("further_generation_protocols is given, so generation_protocol is needed")
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
        """The autoencoders that are measured everywhere and have rows in Table 2."""
        return [*self.autoencoders, *self.reconstruction_only, *self.controls]
