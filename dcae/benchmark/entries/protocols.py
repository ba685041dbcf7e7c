# SPDX-License-Identifier: Apache-2.0
"""Protocol entries: how quality and efficiency are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dcae.benchmark.entries.base import Entry
from dcae.benchmark.entries.networks import NetworkWeights


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
