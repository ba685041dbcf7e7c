# SPDX-License-Identifier: Apache-2.0
"""What the YAML file of a benchmark may say."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from dcae.benchmark.entries import Settings
from dcae.benchmark.studies import Studies, variants


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
