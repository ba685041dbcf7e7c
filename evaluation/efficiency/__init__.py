# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and size of diffusion models and autoencoders, from shapes alone: no weights, no data."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["profile_autoencoder", "profile_phases"],
        "denoiser": ["profile_denoiser"],
        "end_to_end": ["profile_end_to_end"],
        "errors": ["BackendError", "UnequalOutputs"],
        "profile": ["Profile"],
    },
)
