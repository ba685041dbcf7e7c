# SPDX-License-Identifier: Apache-2.0
"""Diffusion entries: a denoiser, its conditioning and its sampler."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dcae.benchmark.entries.autoencoders import Pretrained
from dcae.benchmark.entries.base import Entry, Settings
from dcae.benchmark.entries.recipes import DiffusionRecipe


class TextEncoder(Settings):
    """T5 encoder: released weights, or random weights, whose embeddings carry no meaning."""

    pretrained: Pretrained | None = Field(None, description="hub id or folder in transformers' layout, safetensors")
    tokenizer_subfolder: str | None = Field(None, description="sub-folder of the tokenizer, if not that of the weights")
    config: dict[str, Any] | None = Field(None, description="arguments of transformers' T5Config; tokens are bytes")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of the weights, in which the encoder runs")
    tokens: PositiveInt = Field(120, description="number of tokens that captions are truncated or padded to")
    seed: int = Field(0, description="seed of random weights")

    @model_validator(mode="after")
    def _config_or_pretrained(self):
        if (self.config is None) == (self.pretrained is None):
            raise ValueError("give exactly one of pretrained (released weights) and config (random weights)")
        if self.pretrained and (self.pretrained.file or self.pretrained.sha256):
            raise ValueError("pretrained.file and pretrained.sha256 are for autoencoders of kind dc-ae")
        return self


class DiffusionEntry(Entry):
    """A denoiser, at any latent shape and patch size (reference: DiT, U-ViT, SiT and PixArt-α papers)."""

    kind: Literal["dit", "u-vit", "pixart"]
    paper_name: str | None = None
    depth: PositiveInt = Field(description="number of blocks; for U-ViT without the middle one, so an even number")
    width: PositiveInt
    heads: PositiveInt
    final_convolution: bool = Field(False, description="U-ViT: the 3x3 convolution after the last layer (DC-AE: none)")
    conditioning: Literal["class", "none", "caption"] = Field(
        "class", description="none: unconditional, even if the data have classes"
    )
    text_encoder: TextEncoder | None = None
    caption_channels: PositiveInt | None = Field(
        None, description="PixArt-α: channels of the text encoder's embeddings"
    )
    interpolation_scale: PositiveFloat | None = Field(
        None, description="PixArt-α: divisor of positions; the authors use 0.5, 1, 2 at 256, 512, 1024 px"
    )
    recipe: str = Field(description="entry in config/recipes: the training, or for released weights their objective")
    pretrained: Pretrained | None = Field(None, description="released weights of one latent shape and patch size")
    sampler: Literal["ddpm", "dpm-solver++", "dpm-solver++-multistep", "ode"]
    ode_solver: Literal["heun2", "dopri5"] = Field(
        "heun2", description="heun2: sampling_steps grid points for all samples; dopri5: adaptive, one sample at a time"
    )
    sampling_steps: PositiveInt
    guidance_scale: PositiveFloat = Field(description="scale of classifier-free guidance; 1 switches guidance off")
    guided_channels: Literal["all", "first-three"] = "all"

    def unfit(self, recipe: DiffusionRecipe) -> str | None:
        """Return why a recipe cannot train this denoiser, or the sampler cannot follow it; ``None`` if it can."""
        objectives = ("epsilon", "velocity") if self.kind == "u-vit" else ("epsilon-learned-range",)
        of_recipe = f"objective of {recipe.name} is {recipe.objective}"
        if recipe.objective not in objectives:
            return f"{of_recipe}, but a {self.kind} is trained for {' or '.join(objectives)}"
        if (self.sampler == "ode") != (recipe.objective == "velocity"):
            return f"{of_recipe} and sampler is {self.sampler}, but velocity and ode go together"
        if self.sampler == "ddpm" and recipe.objective != "epsilon-learned-range":
            return f"{of_recipe}, but sampler ddpm needs a learned variance"
        return None

    def classes(self, of_data: int) -> int:
        """Return the number of classes that the denoiser is conditioned on."""
        return of_data if self.conditioning == "class" else 0

    @model_validator(mode="after")
    def _shapes_fit(self):
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.kind == "u-vit" and self.depth % 2:
            raise ValueError(f"depth of a u-vit counts in-blocks plus out-blocks and must be even, got {self.depth}")
        return self

    @model_validator(mode="after")
    def _captions_are_for_pixart(self):
        pixart = self.kind == "pixart"
        if pixart != (self.conditioning == "caption"):
            raise ValueError(
                f"kind is {self.kind} and conditioning is {self.conditioning}, but pixart and caption go together"
            )
        for field in ("text_encoder", "caption_channels", "interpolation_scale"):
            if (getattr(self, field) is not None) != pixart:
                raise ValueError(f"{field} is {'missing' if pixart else 'given'}: a pixart has it, and no other")
        return self

    @model_validator(mode="after")
    def _the_text_encoder_fits(self):
        config = self.text_encoder.config if self.text_encoder else None
        if config and config.get("d_model", self.caption_channels) != self.caption_channels:
            raise ValueError(
                f"caption_channels is {self.caption_channels}, text_encoder.config.d_model is {config['d_model']}"
            )
        return self

    @model_validator(mode="after")
    def _guidance_needs_a_condition(self):
        if self.conditioning == "none" and self.guidance_scale != 1:
            raise ValueError(f"guidance_scale is {self.guidance_scale}, but conditioning is none: set it to 1")
        return self
