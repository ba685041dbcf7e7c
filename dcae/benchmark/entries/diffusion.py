# SPDX-License-Identifier: Apache-2.0
"""Diffusion entries: a denoiser and how it is sampled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.base import Entry


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
