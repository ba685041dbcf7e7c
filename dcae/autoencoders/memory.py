# SPDX-License-Identifier: Apache-2.0
"""How many images an autoencoder takes at a time without training, so that every resolution fits one GPU."""

from __future__ import annotations

# 64 images of 256 px, 4 of 1024 px, 1 of 2048 px: 13 GB of activations in SD-VAE's decoder in fp32, 5 GB in DC-AE-f32's
# (counted; results/measured has the peaks at 256 px).
PIXELS_AT_ONCE = 2**22


def images_at_once(resolution: int, at_most: int) -> int:
    """Images of so many pixels a side that are encoded or decoded together."""
    return max(1, min(at_most, PIXELS_AT_ONCE // resolution**2))
