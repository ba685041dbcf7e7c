# SPDX-License-Identifier: Apache-2.0
"""Weights of feature networks in recipes and protocols."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dcae.benchmark.entries.base import Settings


class NetworkWeights(Settings):
    """Weights of a feature network: a file in config/weights.yaml, or random weights from a seed."""

    network: str = Field(
        description="alex or vgg (LPIPS), inception-v3, scene-classifier, dinov2-vit-*-14, or an open_clip model name"
    )
    weights: str = Field(description="a name in config/weights.yaml, or random")
    seed: int = Field(0, ge=0)

    @property
    def random(self) -> bool:
        return self.weights == "random"


class SubsetDetector(Settings):
    """Detector of the images of a subset, such as those with faces, run on the originals."""

    detector: Literal["yunet", "db"] = Field(description="yunet: faces; db: text, by Differentiable Binarization")
    weights: str = Field(description="ONNX file in config/weights.yaml; if it is missing, the subset is left out")
    score: float = Field(ge=0, le=1, description="minimum detection score")
    smallest_share: float = Field(0, ge=0, le=1, description="minimum share of the image that detections cover")

    @property
    def random(self) -> bool:
        """False: a detector without trained weights finds nothing."""
        return False
