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
        "extraction": ["Extractor"],
        "efficiency.denoiser": ["DenoiserShape", "profile_denoiser"],
        "features": ["InceptionFeatures"],
        "figures.drawing": ["draw_figures"],
        "fingerprints": ["fingerprint"],
        "generation": ["evaluate_generation", "save_generation_samples"],
        "jackknife": ["jackknife_frechet", "mean_and_standard_error"],
        "kernel_distance": ["clip_mmd", "kernel_inception_distance"],
        "model_card": ["card_text"],
        "paired": ["compare_distances", "compare_images", "read_rows"],
        "pixels": ["psnr", "ssim"],
        "neighbours": ["precision_recall"],
        "published_reconstruction": ["has_published_elsewhere"],
        "published": ["read_published"],
        "reconstruction": ["evaluate_reconstruction", "save_reconstruction_samples", "write_rows"],
        "reference": ["ReferenceError", "read_reference", "write_reference"],
        "statistics": ["frechet_distance", "frechet_distance_of_features"],
        "tables.ablations": ["build_ablations"],
        "tables.choices": ["Choice", "build_choices"],
        "tables.elsewhere": ["build_published_elsewhere"],
        "tables.formats": ["write_tables"],
        "tables.paired": ["build_paired"],
        "tables.paper": ["build_tables"],
        "tables.protocols": ["build_protocols"],
        "tables.subsets": ["build_subsets"],
    },
)
