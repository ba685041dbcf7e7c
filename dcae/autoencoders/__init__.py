# SPDX-License-Identifier: Apache-2.0
"""Autoencoders behind one contract: ``load`` an entry, ``encode`` images, ``decode`` latents, ``save`` a folder."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "contract": ["Autoencoder", "denormalise", "normalise"],
        "layers": ["decoder_head", "middle_layers"],
        "loading": ["load", "save"],
        "memory": ["images_at_once"],
        "tiling": ["reconstruct"],
    },
)
