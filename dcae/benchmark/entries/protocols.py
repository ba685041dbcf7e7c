# SPDX-License-Identifier: Apache-2.0
"""Protocol entries: how quality and efficiency are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.autoencoders import Tiling
from dcae.benchmark.entries.base import Entry
from dcae.benchmark.entries.networks import NetworkWeights, SubsetDetector


class Protocol(Entry):
    """Everything that decides a quality metric's value besides the model.

    The rest is the same in every protocol: reconstructions are compared with their inputs, both as 8-bit RGB; PSNR is
    the mean over images; SSIM follows torchmetrics 1.9 (per channel, averaged).
    """

    kind: Literal["quality"]
    crop: Literal["adm"] = "adm"
    quantisation: Literal["round", "truncate"] = Field(
        "round", description="how outputs are quantised to 8 bits: rounded, or truncated as in ADM and LDM"
    )
    inception: NetworkWeights
    inception_resize: Literal["bilinear", "tensorflow1", "clean"] = Field(
        description="resize to 299 px: as pytorch-fid, torch-fidelity or clean-fid"
    )
    lpips: NetworkWeights
    clip: NetworkWeights | None = Field(None, description="CLIP model of the CLIP score")
    dinov2: NetworkWeights | None = Field(None, description="DINOv2 model of FD-DINOv2")
    kid_estimator: Literal["paired", "unpaired"] = Field(
        "paired",
        description="of reconstructions: paired leaves the pairs of an image and its own reconstruction out of KID; "
        "unpaired keeps them, as libraries do (46 % less at 200 images)",
    )
    cmmd: NetworkWeights | None = Field(None, description="CLIP model whose image embeddings CMMD compares")
    subsets: dict[Annotated[str, Field(pattern=r"^[a-z]+$")], SubsetDetector] | None = Field(
        None, description="subsets that are measured separately as well, such as face and text: name and detector"
    )
    reconstruction_images: PositiveInt = Field(description="first N validation images")
    sampling_precision: Literal["fp32", "tf32"] = Field(
        "fp32",
        description="of samples and their decoding on a GPU, with float32 weights: tf32 rounds the inputs of matrix "
        "products and convolutions to TF32; of the samples that several protocols share, the main one's counts",
    )
    generation_images: PositiveInt
    generation_reference: Literal["train", "validation"] = "train"
    generation_reference_images: PositiveInt
    generation_controls: Literal["train", "validation"] | None = Field(
        None,
        description="split whose real images are compared with the reference as samples are, as they are and "
        "autoencoded: the least distances that samples can have; default: none",
    )

    @property
    def networks(self) -> list[NetworkWeights]:
        """Return every feature network of this protocol."""
        return [each for each in (self.inception, self.lpips, self.clip, self.dinov2, self.cmmd) if each]

    @property
    def detectors(self) -> list[SubsetDetector]:
        """Return the detectors of the subsets. Their weights may be missing: then the subset is left out."""
        return list((self.subsets or {}).values())

    @property
    def random_features(self) -> bool:
        """True if any number of this protocol comes from a network with random weights."""
        return any(network.random for network in self.networks)


Backend = Literal["eager", "compile", "onnxruntime", "tensorrt"]
BatchSize = PositiveInt | Literal["largest"] | dict[str, dict[PositiveInt, PositiveInt]]


class EfficiencyProtocol(Entry):
    """How speed and memory are measured (evaluation.md section 8.1).

    A batch size is a number, ``largest`` (as many images as fit into memory), or a table from the paper's name of a
    diffusion model and the side of its square of tokens to a batch size.
    """

    kind: Literal["efficiency"]
    measures: Literal["denoiser", "end-to-end", "autoencoder"] = Field(
        "denoiser", description="denoiser: one conditional pass; end-to-end: all steps, guidance and the autoencoder"
    )
    precision: Literal["fp32", "bf16", "fp16"]
    training_backend: Literal["eager", "compile"] = "eager"
    inference_backend: Backend = "eager"
    training_batch_size: BatchSize | None = None
    inference_batch_size: BatchSize | None = None
    largest_batch_size: PositiveInt = Field(4096, description="upper bound when a batch size is largest")
    latency_batch_size: PositiveInt = 2
    memory_batch_size: PositiveInt | None = None
    activation_checkpointing: bool = False
    token_precision: Literal["autocast"] | None = Field(
        None, description="U-ViT: keep tokens in the precision of the training, too; default: in fp32"
    )
    autoencoder_pixels: PositiveInt = Field(2**22, description="pixels per batch of an autoencoder; at least one image")
    tiling: Tiling | None = Field(None, description="tiling of autoencoders at resolutions that do not fit otherwise")
    phase_batch_size: PositiveInt = Field(1, description="batch size for comparing the memory of training phases")
    warmup_steps: PositiveInt = Field(description="minimum number of warm-up steps, if they fit into warmup_seconds")
    warmup_seconds: PositiveFloat = Field(5, description="warm-up budget in seconds (at least two steps run)")
    seconds: PositiveFloat = Field(description="seconds of measuring per value; the median over steps is reported")
    repeats: PositiveInt = Field(3, description="parts of the measuring time whose medians must agree")

    def batch_size(self, work: Literal["training", "inference"], model: str, side: int) -> int | Literal["largest"]:
        """Return the batch size for a diffusion model, by its name in the paper, on side x side tokens.

        The part of a name after a comma is about the model's training and is ignored.

        Raises:
            ValueError: the table has no batch size for it.
        """
        size = getattr(self, f"{work}_batch_size")
        if not isinstance(size, dict):
            return size
        model = model.split(",")[0]
        if side not in size.get(model, {}):
            raise ValueError(
                f"protocol {self.name}: {work}_batch_size has none for {model} on {side} x {side} tokens: add it"
            )
        return size[model][side]

    @model_validator(mode="after")
    def _batch_sizes_are_given(self):
        for field in ("training_batch_size", "inference_batch_size", "memory_batch_size"):
            size = getattr(self, field)
            if size is None and self.measures != "autoencoder":
                raise ValueError(f"{field} is missing: only a protocol that measures an autoencoder needs none")
            if not isinstance(size, int) and self.measures == "end-to-end":
                raise ValueError(f"{field} is {size!r}, but end-to-end needs a number")
        return self


ProtocolEntry = Annotated[Protocol | EfficiencyProtocol, Field(discriminator="kind")]
