# SPDX-License-Identifier: Apache-2.0
"""Diffusion models: networks, what they are trained for, how they generate, and the latents they are trained on."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "building": ["DenoiserConfig", "build_denoiser"],
        "caption_encoding": ["encode_captions"],
        "captions": ["CaptionDataset", "Captions"],
        "latent_dataset": ["LatentDataset"],
        "latents": ["encode_dataset"],
        "loading": ["load_denoiser", "save_denoiser"],
        "on_the_fly": ["EncodedOnTheFly"],
        "objectives": ["diffusion_losses", "draw_training_inputs"],
        "released": ["load_released"],
        "sampling": ["sample"],
        "text": ["T5TextEncoder"],
    },
)
