# SPDX-License-Identifier: Apache-2.0
"""How autoencoders and diffusion models are trained: one loop that resumes exactly, and the tasks it runs."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["train_autoencoder_phase"],
        "denoiser": ["train_denoiser"],
        "perceptual": ["perceptual_network"],
        "stopping": ["EXIT_UNFINISHED", "NoProgress", "TrainingDiverged", "Unfinished"],
        "state": ["StateLocked"],
    },
)
