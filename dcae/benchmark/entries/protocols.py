# SPDX-License-Identifier: Apache-2.0
"""Protocol entries: how quality and efficiency are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dcae.benchmark.entries.base import Entry
from dcae.benchmark.entries.networks import NetworkWeights


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
    reconstruction_images: PositiveInt = Field(description="first N validation images")
    generation_images: PositiveInt
    generation_reference: Literal["train", "validation"] = "train"
    generation_reference_images: PositiveInt

    @property
    def networks(self) -> list[NetworkWeights]:
        """Every feature network that this protocol uses."""
        return [each for each in (self.inception, self.lpips, self.clip, self.dinov2, self.cmmd) if each]

    @property
    def random_features(self) -> bool:
        """True if any number of this protocol comes from a network with random weights."""
        return any(network.random for network in self.networks)


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
