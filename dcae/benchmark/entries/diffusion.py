# SPDX-License-Identifier: Apache-2.0
"""Diffusion entries: a denoiser and how it is sampled."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.autoencoders import Pretrained
from dcae.benchmark.entries.base import Entry, Settings


class TextEncoder(Settings):
    """The encoder of a T5: released weights, or an architecture with random ones, which say nothing about language."""

    pretrained: Pretrained | None = Field(None, description="hub id or folder in transformers' layout, safetensors")
    tokenizer_subfolder: str | None = Field(None, description="where it is not that of the weights")
    config: dict[str, Any] | None = Field(None, description="arguments of transformers' T5Config; tokens are bytes")
    tokens: PositiveInt = Field(120, description="captions are cut off or padded to so many")
    seed: int = Field(0, description="of random weights")

    @model_validator(mode="after")
    def _config_or_pretrained(self):
        if (self.config is None) == (self.pretrained is None):
            raise ValueError("give exactly one of pretrained (released weights) and config (random weights)")
        if self.pretrained and (self.pretrained.file or self.pretrained.sha256):
            raise ValueError("pretrained.file and pretrained.sha256 are for autoencoders of kind dc-ae")
        return self


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
