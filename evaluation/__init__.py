# SPDX-License-Identifier: Apache-2.0
"""How autoencoders and diffusion models are measured, and how what was measured is shown."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "ablations": ["build_ablations"],
        "choices": ["Choice", "build_choices"],
        "clip_score": ["ClipScore"],
        "controls": ["check_controls"],
        "cost": ["count_macs", "count_parameters"],
        "description": ["describe_autoencoder"],
        "efficiency": ["profile_denoiser"],
        "features": ["InceptionFeatures"],
        "figures": ["draw_figures"],
        "fingerprints": ["fingerprint"],
        "generation": ["evaluate_generation", "save_generation_samples"],
        "model_card": ["card_text"],
        "pixels": ["psnr", "ssim"],
        "reconstruction": ["evaluate_reconstruction", "save_reconstruction_samples", "write_rows"],
        "reference": ["ReferenceError", "read_reference", "write_reference"],
        "statistics": [
            "frechet_distance",
            "frechet_distance_of_features",
            "jackknife_frechet",
            "mean_and_standard_error",
        ],
        "tables": ["build_tables", "write_tables"],
    },
)
