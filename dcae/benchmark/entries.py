# SPDX-License-Identifier: Apache-2.0
"""The typed form of every YAML file under ``config/`` that describes one thing: an *entry*.

An entry's name is its file name. Fields listed in ``DESCRIPTIVE`` explain an entry and never decide a result; they
are left out of its digest, so that correcting a description makes nothing stale.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, model_validator

DESCRIPTIVE = frozenset({"name", "description", "paper_name", "source", "licence", "choices"})


class Entry(BaseModel):
    """One YAML file. Unknown keys are errors; an entry never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(description="the file name without .yaml")
    description: str = ""
    source: str | None = Field(None, description="paper, upstream file or model card")
    licence: str | None = None
    choices: list[str] = Field([], description="fields whose values the paper leaves open and this project chose")

    def decisive(self) -> dict[str, Any]:
        """Every field that decides a result, with its defaults; fields that are ``None`` are left out."""
        return self.model_dump(mode="json", exclude=set(DESCRIPTIVE), exclude_none=True)


def digest(*entries: Entry | dict[str, Any] | str | int) -> str:
    """Sha256 (first 16 hex digits) of what decides a result in the given entries and values."""
    parts = [entry.decisive() if isinstance(entry, Entry) else entry for entry in entries]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Settings(BaseModel):
    """A group of fields within an entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- autoencoders ---------------------------------------------------------------------------------------------------


class StartFrom(Settings):
    """Training starts from the weights that another autoencoder of the same architecture had after a phase."""

    autoencoder: str
    phase: str


class AutoencoderFields(Entry):
    """What every autoencoder entry says, whatever its kind.

    ``latent_scale`` and ``latent_shift`` follow ``z = (latents - latent_shift) * latent_scale``; a trained autoencoder
    that gives no scale gets 1/RMS of its latents on the training data.
    """

    paper_name: str | None = Field(None, description="its name in the paper's tables")
    spatial_compression: PositiveInt
    latent_channels: PositiveInt
    latent_scale: float | list[float] | None = None
    latent_shift: float | list[float] | None = None
    recipe: str | None = Field(None, description="entry in config/recipes; without one the autoencoder is not trained")
    start_from: StartFrom | None = None

    @model_validator(mode="after")
    def _start_needs_recipe(self):
        if self.start_from and not self.recipe:
            raise ValueError("start_from is given but recipe is not: there is no training to start")
        return self


class DCAEStages(Settings):
    """DC-AE's table of stages: stage ``i`` works at H / 2**i. A first stage of depth 0 is skipped (dc_ae.py)."""

    widths: list[PositiveInt]
    encoder_depths: list[int]
    decoder_depths: list[int]
    encoder_blocks: list[Literal["ResBlock", "EfficientViTBlock"]]
    decoder_blocks: list[Literal["ResBlock", "EfficientViTBlock"]]
    decoder_norms: list[Literal["BatchNorm", "RMSNorm"]]
    encoder_multiscale: list[list[PositiveInt]] | None = Field(None, description="kernel sizes per stage")
    decoder_multiscale: list[list[PositiveInt]] | None = None

    @model_validator(mode="after")
    def _equally_long(self):
        lengths = {field: len(value) for field, value in self if value is not None}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"every list needs one value per stage, got {lengths}")
        return self


class DCAEEntry(AutoencoderFields):
    """This project's own implementation of DC-AE (paper section 3)."""

    kind: Literal["dc-ae"]
    stages: DCAEStages
    head_dim: PositiveInt = 32
    downsample: Literal["pixel-unshuffle", "strided-conv"] = "pixel-unshuffle"
    upsample: Literal["pixel-shuffle", "interpolate"] = "pixel-shuffle"
    shortcut: Literal["released-code", "paper-text", "none"] = "released-code"
    decoder_output_act: Literal["ReLU", "SiLU"] = "ReLU"
    pretrained: Pretrained | None = None

    @model_validator(mode="after")
    def _compression_follows_from_stages(self):
        expected = 2 ** (len(self.stages.widths) - 1)
        if self.spatial_compression != expected:
            raise ValueError(
                f"spatial_compression is {self.spatial_compression}, {len(self.stages.widths)} stages give {expected}"
            )
        return self


class Pretrained(Settings):
    """Released weights: a hub id or a folder, in the original or the diffusers layout."""

    id: str = Field(description="hub id (owner/name) or a folder")
    revision: str | None = None
    subfolder: str | None = None


class DiffusersEntry(AutoencoderFields):
    """An autoencoder class of the diffusers library: ``config`` to train it, ``pretrained`` to load it."""

    kind: Literal["diffusers"]
    class_name: str = Field(alias="class", description="for example AutoencoderKL")
    config: dict[str, Any] | None = None
    pretrained: Pretrained | None = None
    posterior: Literal["mode", "sample"] = "mode"
    initialisation: Literal["library", "he-normal"] = Field(
        "library",
        description="random weights as diffusers draws them, or with zero biases so that tiny networks learn at once",
    )

    @model_validator(mode="after")
    def _config_or_pretrained(self):
        if (self.config is None) == (self.pretrained is None):
            raise ValueError("give exactly one of config (to train) and pretrained (to load)")
        return self


class PythonEntry(AutoencoderFields):
    """A user's own code: ``factory`` names a callable that returns an autoencoder (see docs of dcae.autoencoders)."""

    kind: Literal["python"]
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$", description="package.module:callable")
    arguments: dict[str, Any] = {}


class SpaceToChannelEntry(AutoencoderFields):
    """Another entry followed by a space-to-channel operation: f times ``factor``, c times ``factor`` squared."""

    kind: Literal["space-to-channel"]
    autoencoder: str = Field(description="name of the autoencoder entry below")
    factor: PositiveInt


AutoencoderEntry = Annotated[
    DCAEEntry | DiffusersEntry | PythonEntry | SpaceToChannelEntry, Field(discriminator="kind")
]


# --- diffusion models -----------------------------------------------------------------------------------------------


class DiffusionEntry(Entry):
    """A denoiser, at any latent shape and patch size (reference: DiT and U-ViT papers)."""

    kind: Literal["dit", "u-vit"]
    paper_name: str | None = None
    depth: PositiveInt = Field(description="number of blocks; for U-ViT without the middle one, so an even number")
    width: PositiveInt
    heads: PositiveInt
    final_convolution: bool = Field(False, description="U-ViT: the 3x3 convolution after the last layer (DC-AE: none)")
    recipe: str
    sampler: Literal["ddpm", "dpm-solver++"]
    sampling_steps: PositiveInt
    guidance_scale: PositiveFloat = Field(description="of the column with guidance; 1 switches guidance off")
    guided_channels: Literal["all", "first-three"] = "all"

    @model_validator(mode="after")
    def _shapes_fit(self):
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.kind == "u-vit" and self.depth % 2:
            raise ValueError(f"depth of a u-vit counts in-blocks plus out-blocks and must be even, got {self.depth}")
        return self


# --- data sets ------------------------------------------------------------------------------------------------------


class ScenesEntry(Entry):
    """Procedural scenes: image ``i`` of a split is a pure function of (seed, split, i) at any resolution."""

    kind: Literal["scenes"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    train_images: PositiveInt
    validation_images: PositiveInt


class PhotographsEntry(Entry):
    """Crops of the photographs that scikit-image ships; training and validation pictures are disjoint."""

    kind: Literal["photographs"]
    paper_name: str | None = None
    seed: int = Field(0, ge=0)
    train_images: PositiveInt
    validation_images: PositiveInt


class FolderEntry(Entry):
    """Any folder of images: ``path/train`` and ``path/validation``, sub-folders being classes if there are any."""

    kind: Literal["folder"]
    paper_name: str | None = None
    path: str
    train: str = "train"
    validation: str = "validation"


DatasetEntry = Annotated[ScenesEntry | PhotographsEntry | FolderEntry, Field(discriminator="kind")]


# --- recipes --------------------------------------------------------------------------------------------------------


class AdamW(Settings):
    """Optimiser of one set of parameters. Weight decay spares norms and biases if ``decay_norms_and_biases`` is off."""

    learning_rate: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = False
    warmup_steps: int = Field(0, ge=0)


class NetworkWeights(Settings):
    """Weights of a feature network: a file named in config/weights.yaml, or random ones from a seed."""

    network: str = Field(description="alex or vgg (LPIPS), inception-v3, or an open_clip model name")
    weights: str = Field(description="a name in config/weights.yaml, or random")
    seed: int = Field(0, ge=0)

    @property
    def random(self) -> bool:
        return self.weights == "random"


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
    """What an autoencoder's training minimises: the weighted sum of what is given."""

    l1: float = Field(1.0, ge=0, description="weight of the mean absolute error")
    perceptual: Perceptual | None = None
    gan: PatchGAN | None = None
    kl: float | None = Field(None, ge=0, description="weight of the KL divergence, for variational autoencoders")


class EMA(Settings):
    """Exponential moving average of the weights; ``ramp_steps`` r gives decay * (1 - exp(-step / r))."""

    decay: float = Field(gt=0, lt=1)
    ramp_steps: PositiveInt | None = None


class TrainingFields(Settings):
    """What trainings of autoencoders and of diffusion models share."""

    steps: PositiveInt
    batch_size: PositiveInt = Field(description="images per step over all processes")
    optimiser: AdamW
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_clip: PositiveFloat | None = None
    ema: EMA | None = None
    checkpoint_every: PositiveInt = 1000
    compile: bool = False
    channels_last: bool = False


class Phase(TrainingFields):
    """One training stage of an autoencoder (paper section 3.2)."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    resolution: PositiveInt
    trains: Literal["all", "middle", "decoder-head"]
    losses: Losses
    crop: Literal["centre", "random"] = "centre"


class AutoencoderRecipe(Entry):
    """A chain of phases over a mixture of data sets (weights: share of the images)."""

    kind: Literal["autoencoder"]
    datasets: dict[str, PositiveFloat]
    phases: list[Phase] = Field(min_length=1)

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
    """Training of a denoiser on cached latents."""

    kind: Literal["diffusion"]
    objective: Literal["epsilon", "epsilon-learned-range"]
    noise_schedule: NoiseSchedule
    label_dropout: float = Field(0.1, ge=0, lt=1)


RecipeEntry = Annotated[AutoencoderRecipe | DiffusionRecipe, Field(discriminator="kind")]


# --- protocols ------------------------------------------------------------------------------------------------------


class Protocol(Entry):
    """Everything that decides a quality metric's value besides the model (evaluation.md section 1)."""

    kind: Literal["quality"]
    crop: Literal["adm"] = "adm"
    inception: NetworkWeights
    inception_resize: Literal["bilinear", "tensorflow1", "clean"] = Field(
        description="to 299 px, as pytorch-fid, torch-fidelity and clean-fid do"
    )
    lpips: NetworkWeights
    clip: NetworkWeights | None = None
    reconstruction_images: PositiveInt = Field(description="first N validation images")
    generation_images: PositiveInt
    generation_reference: Literal["train", "validation"] = "train"
    generation_reference_images: PositiveInt

    @property
    def random_features(self) -> bool:
        """True if any number of this protocol comes from a network with random weights."""
        networks = [self.inception, self.lpips, *([self.clip] if self.clip else [])]
        return any(network.random for network in networks)


class EfficiencyProtocol(Entry):
    """How speed and memory are measured (evaluation.md section 8.1)."""

    kind: Literal["efficiency"]
    precision: Literal["fp32", "bf16", "fp16"]
    training_batch_size: PositiveInt
    inference_batch_size: PositiveInt
    latency_batch_size: PositiveInt = 2
    memory_batch_size: PositiveInt
    activation_checkpointing: bool = False
    warmup_steps: PositiveInt
    seconds: PositiveFloat = Field(description="measuring time per figure; the median over the steps counts")


ProtocolEntry = Annotated[Protocol | EfficiencyProtocol, Field(discriminator="kind")]

DCAEEntry.model_rebuild()

ADAPTERS: dict[str, TypeAdapter] = {
    "autoencoders": TypeAdapter(AutoencoderEntry),
    "diffusion": TypeAdapter(DiffusionEntry),
    "datasets": TypeAdapter(DatasetEntry),
    "recipes": TypeAdapter(RecipeEntry),
    "protocols": TypeAdapter(ProtocolEntry),
}
