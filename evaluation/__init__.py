# SPDX-License-Identifier: Apache-2.0
"""How autoencoders and diffusion models are measured, and how what was measured is shown."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "clip_score": ["ClipScore"],
        "controls": ["check_controls"],
        "cost": ["count_macs", "count_parameters"],
        "description": ["describe_autoencoder"],
        "efficiency.denoiser": ["DenoiserShape", "profile_denoiser"],
        "features": ["InceptionFeatures"],
        "figures.drawing": ["draw_figures"],
        "fingerprints": ["fingerprint"],
        "generation": ["evaluate_generation", "save_generation_samples"],
        "model_card": ["card_text"],
        "pixels": ["psnr", "ssim"],
        "published": ["read_published"],
        "reconstruction": ["evaluate_reconstruction", "save_reconstruction_samples", "write_rows"],
        "reference": ["ReferenceError", "read_reference", "write_reference"],
        "statistics": [
            "frechet_distance",
            "frechet_distance_of_features",
            "jackknife_frechet",
            "mean_and_standard_error",
        ],
        "tables.ablations": ["build_ablations"],
        "tables.choices": ["Choice", "build_choices"],
        "tables.formats": ["write_tables"],
        "tables.paper": ["build_tables"],
    },
)
