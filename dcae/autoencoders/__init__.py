# SPDX-License-Identifier: Apache-2.0
"""Autoencoders behind one contract.

``load`` an entry, ``encode`` images, ``decode`` latents and ``save`` a folder. These names are for users' scripts; the
project itself imports each from the module that defines it.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "contract": ["Autoencoder", "denormalise", "normalise"],
        "loading": ["load", "save"],
        "tiling": ["reconstruct"],
    },
)
