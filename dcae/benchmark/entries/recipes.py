# SPDX-License-Identifier: Apache-2.0
"""Recipe entries: how autoencoders and diffusion models are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.base import Entry, Settings
from dcae.benchmark.entries.networks import NetworkWeights


class AdamW(Settings):
    """AdamW optimiser. Norms and biases are not decayed unless ``decay_norms_and_biases`` is on."""

    learning_rate: PositiveFloat
    muon_learning_rate: PositiveFloat | None = Field(
        None, description="kernels and matrices are trained by Muon, at this rate; default: all is trained by AdamW"
    )
    muon_momentum: float | None = Field(None, ge=0, lt=1, description="default: 0.95")
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    eps: PositiveFloat = Field(1e-8, description="term in the denominator, for numerical stability")
    decay_norms_and_biases: bool = False
    warmup_steps: int = Field(0, ge=0)
    cosine_steps: PositiveInt | None = Field(
        None, description="the learning rate falls along a half cosine to 0 at this step; default: it is constant"
    )


class Perceptual(Settings):
    """LPIPS as a loss."""

    weight: PositiveFloat
    lpips: NetworkWeights


class PatchGAN(Settings):
    """Hinge loss against LDM's three-layer patch discriminator, with its own optimiser."""

    weight: PositiveFloat
    adaptive_weight: bool = Field(False, description="LDM: scale by the ratio of gradient norms at the last layer")
    start_step: int = Field(0, ge=0)
    layers: PositiveInt = 3
    width: PositiveInt = 64
    optimiser: AdamW


class Losses(Settings):
    """Loss of an autoencoder: the weighted sum of the terms that are given."""

    l1: float = Field(1.0, ge=0, description="weight of the mean absolute error")
    mse: PositiveFloat | None = Field(None, description="weight of the mean squared error")
    perceptual: Perceptual | None = None
    gan: PatchGAN | None = None
    kl: float | None = Field(None, ge=0, description="weight of the KL divergence, for variational autoencoders")


class EMA(Settings):
    """Exponential moving average of the weights; ``ramp_steps`` r gives decay * (1 - exp(-step / r))."""

    decay: float = Field(gt=0, lt=1)
    ramp_steps: PositiveInt | None = None


class TrainingFields(Settings):
    """Fields shared by trainings of autoencoders and of diffusion models."""

    steps: PositiveInt
    batch_size: PositiveInt = Field(description="images per step over all processes")
    optimiser: AdamW
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_clip: PositiveFloat | None = None
    ema: EMA | None = None
    checkpoint_every: PositiveInt = 1000
    compile: bool = False
    gradient_accumulation: PositiveInt = Field(1, description="micro-batches per process and step")


class Phase(TrainingFields):
    """One training stage of an autoencoder (paper section 3.2)."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    resolution: PositiveInt
    trains: Literal["all", "middle", "decoder-head"]
    losses: Losses
    crop: Literal["centre", "random"] = "centre"
    extra_blocks: int = Field(
        0, ge=0, description="additional blocks trained on each side, beyond the minimum of middle or decoder-head"
    )
    gradient_checkpointing: bool | list[int] = Field(
        False, description="recompute activations in the backward pass: all stages, or the listed ones"
    )
    channels_last: bool = False

    @model_validator(mode="after")
    def _extra_blocks_need_a_part(self):
        if self.extra_blocks and self.trains == "all":
            raise ValueError("extra_blocks is given, but trains is all: there is nothing beyond")
        return self

    @model_validator(mode="after")
    def _compiled_graphs_recompute_by_themselves(self):
        if self.compile and self.gradient_checkpointing:
            raise ValueError("compile and gradient_checkpointing exclude each other: leave one of them out")
        return self


class AutoencoderRecipe(Entry):
    """A chain of phases over a mixture of datasets, whose weights are shares of the images."""

    kind: Literal["autoencoder"]
    datasets: dict[str, PositiveFloat]
    phases: list[Phase] = Field(min_length=1)
    latent_scale_images: PositiveInt = Field(
        4096, description="training images whose latents give the latent scale, 1/RMS"
    )

    @model_validator(mode="after")
    def _phase_names_differ(self):
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"phases need different names, got {names}")
        return self


class NoiseSchedule(Settings):
    """Variance schedule of the forward process."""

    beta_schedule: Literal["linear", "scaled_linear"]
    beta_start: PositiveFloat
    beta_end: PositiveFloat
    timesteps: PositiveInt = 1000


class DiffusionRecipe(Entry, TrainingFields):
    """Training of a denoiser on latents."""

    kind: Literal["diffusion"]
    objective: Literal["epsilon", "epsilon-learned-range", "velocity"] = Field(
        description="training target; velocity follows the straight path from noise to data (SiT), without a schedule"
    )
    noise_schedule: NoiseSchedule | None = None
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="probability of replacing a label or caption by the null condition"
    )
    latents: Literal["cached", "on-the-fly"] = Field(
        "cached", description="encode once before the training, or encode images at every step"
    )
    crop: Literal["centre", "random"] = Field("centre", description="crop of images that are encoded on the fly")
    gradient_checkpointing: bool = Field(False, description="recompute the blocks' activations in the backward pass")
    token_precision: Literal["autocast"] | None = Field(
        None, description="U-ViT: keep tokens in the precision of the training, too; default: in fp32"
    )

    @model_validator(mode="after")
    def _noise_has_a_schedule(self):
        if (self.noise_schedule is None) != (self.objective == "velocity"):
            given = "missing" if self.noise_schedule is None else "given"
            raise ValueError(f"noise_schedule is {given}, objective is {self.objective}: all but velocity need one")
        return self

    @model_validator(mode="after")
    def _cached_latents_are_of_centre_crops(self):
        if self.crop == "random" and self.latents == "cached":
            raise ValueError("crop is random, but latents are cached, of centre crops: choose latents: on-the-fly")
        return self


RecipeEntry = Annotated[AutoencoderRecipe | DiffusionRecipe, Field(discriminator="kind")]
