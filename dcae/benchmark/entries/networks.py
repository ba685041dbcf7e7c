# SPDX-License-Identifier: Apache-2.0
"""Weights of feature networks, as recipes and protocols name them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dcae.benchmark.entries.base import Settings


class NetworkWeights(Settings):
    """Weights of a feature network: a file named in config/weights.yaml, or random ones from a seed."""

    network: str = Field(description="alex or vgg (LPIPS), inception-v3, dinov2-vit-*-14, or an open_clip model name")
    weights: str = Field(description="a name in config/weights.yaml, or random")
    seed: int = Field(0, ge=0)

    @property
    def random(self) -> bool:
        return self.weights == "random"


class SubsetDetector(Settings):
    """What finds the images of a subset among the originals, such as those with faces."""

    detector: Literal["yunet", "db"] = Field(description="yunet: faces; db: text, by Differentiable Binarization")
    weights: str = Field(
        description="of an ONNX file in config/weights.yaml; where it is missing, the subset is left out"
    )
    score: float = Field(ge=0, le=1, description="that a face or a text needs to count")
    smallest_share: float = Field(0, ge=0, le=1, description="of an image that they have to cover")

    @property
    def random(self) -> bool:
        """Never: a detector without trained weights finds nothing."""
        return False
