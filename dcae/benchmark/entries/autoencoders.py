# SPDX-License-Identifier: Apache-2.0
"""Autoencoder entries: where an autoencoder comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.base import Entry, Settings


class StartFrom(Settings):
    """Training starts from the weights that another autoencoder of the same architecture had after a phase."""

    autoencoder: str
    phase: str


class Tiling(Settings):
    """Encode and decode in overlapping square tiles, for images that do not fit into memory."""

    tile: PositiveInt = Field(description="side of a tile in pixels; smaller images are not tiled")
    overlap: PositiveInt = Field(description="pixels that neighbours share, blended linearly")

    @model_validator(mode="after")
    def _tiles_advance(self):
        if 2 * self.overlap > self.tile:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}")
        return self


MEASURED = "measured"


class AutoencoderFields(Entry):
    """Fields of every autoencoder entry.

    ``latent_scale`` and ``latent_shift`` follow ``z = (latents - latent_shift) * latent_scale``; a trained autoencoder
    that gives no scale gets 1/RMS of its latents on the training data. ``latent_scale: measured`` does the same for one
    without training: 1/RMS of its latents of the training images of the dataset that a benchmark encodes.
    """

    paper_name: str | None = Field(None, description="name in the paper's tables")
    paper_datasets: list[str] | None = Field(
        None,
        description="datasets, as the paper names them, whose Table 2 values belong to these weights; default: all",
    )
    spatial_compression: PositiveInt
    latent_channels: PositiveInt
    latent_scale: PositiveFloat | list[PositiveFloat] | Literal["measured"] | None = None
    latent_shift: float | list[float] | None = None
    resolutions: list[PositiveInt] | None = Field(
        None, description="supported image sizes in pixels; default: every multiple of f"
    )
    gated: bool = Field(False, description="the hub asks for acceptance of the licence")
    restriction: str | None = Field(None, description="restriction in the licence of the weights")
    tiling: Tiling | None = None
    padding: Literal["reflect", "replicate"] | None = Field(
        None, description="padding of images whose sides are not multiples of f; default: an error"
    )
    recipe: str | None = Field(None, description="entry in config/recipes; without one the autoencoder is not trained")
    start_from: StartFrom | None = None

    @model_validator(mode="after")
    def _start_needs_recipe(self):
        if self.start_from and not self.recipe:
            raise ValueError("start_from is given but recipe is not: there is no training to start")
        return self

    @model_validator(mode="after")
    def _measures_what_no_training_does(self):
        without_training = getattr(self, "kind", None) in ("python", "diffusers") and not self.recipe
        if self.latent_scale == MEASURED and not without_training:
            raise ValueError(
                "latent_scale: measured is for entries of kind python or diffusers without a recipe; a training "
                "measures the scale by itself, a space-to-channel entry has that of the entry below"
            )
        return self

    @model_validator(mode="after")
    def _resolutions_are_multiples(self):
        wrong = [side for side in self.resolutions or [] if side % self.spatial_compression]
        if wrong:
            raise ValueError(f"resolutions {wrong} are no multiples of spatial_compression {self.spatial_compression}")
        return self


class Pretrained(Settings):
    """Released weights, safetensors only: a hub id, a folder or a file; of a DC-AE in the original layout, too."""

    id: str = Field(description="hub id (owner/name), a folder, or a .safetensors file")
    revision: str | None = None
    subfolder: str | None = None
    file: str | None = Field(None, description="file name, where a folder of DC-AE weights holds several")
    download: str | None = Field(None, description="where to get a file that no hub has, for errors")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of the file")


Posterior = Literal["mode", "sample", "moments"]
POSTERIOR = "latents for diffusion models: the mode, one sample, or moments (a new sample at every step)"

BlockKind = Literal["ResBlock", "EfficientViTBlock", "TransformerBlock"]


class DCAEStages(Settings):
    """DC-AE's table of stages: stage ``i`` works at H / 2**i. A first stage of depth 0 is skipped (dc_ae.py)."""

    widths: list[PositiveInt]
    encoder_depths: list[int]
    decoder_depths: list[int]
    encoder_blocks: list[BlockKind]
    decoder_blocks: list[BlockKind]
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
    zero_init_residual: bool = Field(False, description="blocks begin as the identity, as in torchvision's ResNets")
    variational: bool = Field(False, description="a Gaussian posterior instead of a latent, for training with kl")
    posterior: Posterior = Field("mode", description=POSTERIOR)
    pretrained: Pretrained | None = None

    @model_validator(mode="after")
    def _posterior_is_there(self):
        if self.posterior != "mode" and not self.variational:
            raise ValueError(f"posterior is {self.posterior}, but without variational: true there is none")
        return self

    @model_validator(mode="after")
    def _compression_follows_from_stages(self):
        expected = 2 ** (len(self.stages.widths) - 1)
        if self.spatial_compression != expected:
            raise ValueError(
                f"spatial_compression is {self.spatial_compression}, {len(self.stages.widths)} stages give {expected}"
            )
        return self


class Conventions(Settings):
    """How a diffusers class deviates from the ``Autoencoder`` contract.

    ``latent_statistics``: source of the numbers that normalise latents. ``config``: the ``config.json`` of the release,
    which the entry must agree with; ``entry``: the entry alone; ``batch-norm``: the weights, as running statistics of a
    BatchNorm ``bn`` that no encoder or decoder runs (FLUX.2).
    """

    image_range: tuple[float, float] = Field(
        (-1.0, 1.0), description="value range of the images that the class takes and returns"
    )
    video: bool = Field(False, description="the class takes videos [B, 3, T, H, W]; an image is a video of one frame")
    latent_patch_size: PositiveInt = Field(
        1, description="side of the latent squares folded into channels; counted in f and c"
    )
    latent_statistics: Literal["config", "entry", "batch-norm"] = "config"

    @model_validator(mode="after")
    def _range_is_not_empty(self):
        if not self.image_range[0] < self.image_range[1]:
            raise ValueError(f"image_range: expected the lowest and the highest value, got {list(self.image_range)}")
        return self


class DiffusersEntry(AutoencoderFields):
    """An autoencoder class of the diffusers library: ``config`` to train it, ``pretrained`` to load it.

    Both together load released weights in LDM's original layout, which says nothing about the architecture.
    """

    kind: Literal["diffusers"]
    class_name: str = Field(alias="class", description="for example AutoencoderKL")
    config: dict[str, Any] | None = None
    pretrained: Pretrained | None = None
    latent_std: list[float] | None = Field(
        None, description="per channel, as latents_std: latent_scale is 1/latent_std"
    )
    conventions: Conventions | None = Field(None, description="default: the conventions of AutoencoderKL")
    posterior: Posterior = Field("mode", description=POSTERIOR)
    initialisation: Literal["library", "he-normal"] = Field(
        "library",
        description="random weights of the library, or He-normal with zero biases (tiny networks learn at once)",
    )
    zero_init_residual: bool = Field(
        False,
        description="residual blocks and attentions begin as the identity, as in torchvision's ResNets",
    )

    @model_validator(mode="after")
    def _config_or_pretrained(self):
        if self.config is None and self.pretrained is None:
            raise ValueError("give config (to train) or pretrained (to load)")
        if self.config and self.pretrained and (self.recipe or self.class_name != "AutoencoderKL"):
            raise ValueError("config and pretrained together are for an AutoencoderKL of LDM, without a recipe")
        if self.pretrained and self.pretrained.file:
            raise ValueError("pretrained.file is for entries of kind dc-ae; diffusers gives files names of its own")
        return self

    @model_validator(mode="after")
    def _one_scale(self):
        if self.latent_std and self.latent_scale is not None:
            raise ValueError("latent_scale and latent_std say the same thing: give one of them")
        for name in ("latent_std", "latent_scale", "latent_shift"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != self.latent_channels:
                raise ValueError(f"{name} has {len(value)} numbers, latent_channels is {self.latent_channels}")
        if self._statistics == "batch-norm" and (self.latent_std, self.latent_scale, self.latent_shift) != (None,) * 3:
            raise ValueError("latent_statistics is batch-norm: the weights give scale and shift, not the entry")
        return self

    @property
    def _statistics(self) -> str:
        return (self.conventions or Conventions()).latent_statistics


class PythonEntry(AutoencoderFields):
    """A user's own code: ``factory`` names a callable that returns an autoencoder (dcae/autoencoders/contract.py)."""

    kind: Literal["python"]
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$", description="package.module:callable")
    arguments: dict[str, Any] = Field({}, description="keyword arguments of the callable")
    results_version: PositiveInt = Field(1, description="raise it when an edit of the code changes its results")


class SpaceToChannelEntry(AutoencoderFields):
    """Another entry followed by a space-to-channel operation: f times ``factor``, c times ``factor`` squared."""

    kind: Literal["space-to-channel"]
    autoencoder: str = Field(description="name of the autoencoder entry below")
    factor: PositiveInt


AutoencoderEntry = Annotated[
    DCAEEntry | DiffusersEntry | PythonEntry | SpaceToChannelEntry, Field(discriminator="kind")
]
