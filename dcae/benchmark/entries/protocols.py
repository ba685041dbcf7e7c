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

    The rest is the same in every protocol: reconstructions are compared with the very images that they were made from,
    PSNR is the mean over images, and SSIM is that of torchmetrics on grey levels.
    """

    kind: Literal["quality"]
    crop: Literal["adm"] = "adm"
    quantisation: Literal["round", "truncate"] = Field(
        "round", description="of a network's images to grey levels: the nearest one, or the one below as ADM and LDM do"
    )
    inception: NetworkWeights
    inception_resize: Literal["bilinear", "tensorflow1", "clean"] = Field(
        description="to 299 px, as pytorch-fid, torch-fidelity and clean-fid do"
    )
    lpips: NetworkWeights
    clip: NetworkWeights | None = Field(None, description="of the CLIP score")
    dinov2: NetworkWeights | None = Field(None, description="of FD-DINOv2")
    cmmd: NetworkWeights | None = Field(None, description="CLIP model whose image embeddings CMMD compares")
    subsets: dict[Annotated[str, Field(pattern=r"^[a-z]+$")], SubsetDetector] | None = Field(
        None, description="images that are measured by themselves too, such as face and text, and what finds them"
    )
    reconstruction_images: PositiveInt = Field(description="first N validation images")
    generation_images: PositiveInt
    generation_reference: Literal["train", "validation"] = "train"
    generation_reference_images: PositiveInt

    @property
    def networks(self) -> list[NetworkWeights]:
        """Every feature network that this protocol uses."""
        return [each for each in (self.inception, self.lpips, self.clip, self.dinov2, self.cmmd) if each]

    @property
    def detectors(self) -> list[SubsetDetector]:
        """Of the subsets; what they find is not a metric, and their weights may be missing."""
        return list((self.subsets or {}).values())

    @property
    def random_features(self) -> bool:
        """True if any number of this protocol comes from a network with random weights."""
        return any(network.random for network in self.networks)


Backend = Literal["eager", "compile", "onnxruntime", "tensorrt"]
BatchSize = PositiveInt | Literal["largest"] | dict[str, dict[PositiveInt, PositiveInt]]


class EfficiencyProtocol(Entry):
    """How speed and memory are measured (evaluation.md section 8.1).

    A batch size is a number, ``largest`` (as many images as fit into memory), or a table: the paper's name of a
    diffusion model, the side of its square of tokens, and the batch size for these.
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
    largest_batch_size: PositiveInt = Field(4096, description="that largest stands for at most")
    latency_batch_size: PositiveInt = 2
    memory_batch_size: PositiveInt | None = None
    activation_checkpointing: bool = False
    autoencoder_pixels: PositiveInt = Field(
        2**22, description="autoencoders get batches of so many pixels, of one image at least"
    )
    tiling: Tiling | None = Field(None, description="of autoencoders, at resolutions that do not fit without")
    phase_batch_size: PositiveInt = Field(1, description="where phases of an autoencoder's training are compared")
    warmup_steps: PositiveInt = Field(description="at least, if they fit into warmup_seconds")
    warmup_seconds: PositiveFloat = Field(5, description="at most, but for two steps")
    seconds: PositiveFloat = Field(description="measuring time per figure; the median over the steps counts")
    repeats: PositiveInt = Field(3, description="parts of the measuring time whose medians have to agree")

    def batch_size(self, work: Literal["training", "inference"], model: str, side: int) -> int | Literal["largest"]:
        """The batch size for a diffusion model, by its name in the paper, on side x side tokens.

        What follows a comma in a name is about the model's training, and does not count.

        Raises:
            ValueError: the table has none for it.
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
