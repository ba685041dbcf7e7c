# SPDX-License-Identifier: Apache-2.0
"""Weights of feature networks, as recipes and protocols name them."""

from __future__ import annotations

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
