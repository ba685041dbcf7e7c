# SPDX-License-Identifier: Apache-2.0
"""Images of any size: batches that fit into memory, overlapping tiles, and padding to a multiple of f."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcae.autoencoders.contract import Autoencoder, require_multiple_sides
from dcae.benchmark.entries import Tiling
from dcae.weights.hub import released_file

# 64 images of 256 px, 4 of 1024 px, 1 of 2048 px: 13 GB of activations in SD-VAE's decoder in fp32, 5 GB in DC-AE-f32's
# (counted; results/measured has the peaks at 256 px).
PIXELS_AT_ONCE = 2**22


def images_at_once(resolution: int, at_most: int) -> int:
    """Return the inference batch size for images of ``resolution`` px, between 1 and ``at_most``."""
    return max(1, min(at_most, PIXELS_AT_ONCE // resolution**2))


def padded(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """Return images [B, 3, H, W] that an autoencoder can encode, padded at the right and bottom edges.

    Args:
        padding: ``reflect`` or ``replicate`` pads to a multiple of f.

    Raises:
        ValueError: H or W is not a multiple of f, and there is no padding.
    """
    f = getattr(autoencoder, "spatial_compression", 1)  # a module without an entry need not say it
    if padding is None:
        require_multiple_sides(images, f)
        return images
    height, width = images.shape[-2:]
    right, bottom = -width % f, -height % f
    if padding == "replicate" or min(height, width) == 1:  # a single row has no neighbour to reflect
        return F.pad(images, (0, right, 0, bottom), mode="replicate")
    while right or bottom:  # reflection adds less than an image's own side at a time
        add_right, add_bottom = (min(right, images.shape[-1] - 1), min(bottom, images.shape[-2] - 1))
        images = F.pad(images, (0, add_right, 0, add_bottom), mode="reflect")
        right, bottom = right - add_right, bottom - add_bottom
    return images


def reconstruct(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """Return reconstructions [B, 3, H, W] of images [B, 3, H, W] in [-1, 1]; arguments and errors as of ``padded``."""
    height, width = images.shape[-2:]
    return autoencoder.decode(autoencoder.encode(padded(autoencoder, images, padding)))[..., :height, :width]


class Tiled(Autoencoder):
    """Wraps an autoencoder so that it sees at most ``tile`` x ``tile`` pixels at a time.

    Neighbouring tiles overlap and are blended linearly. The result is the same for an autoencoder whose receptive field
    fits into the overlap; for DC-AE's global attention the difference is measured in the tests and in ``bench/``.
    Compute metrics without tiles where memory allows.

    Raises:
        ValueError: tile or overlap is not a multiple of f.
    """

    def __init__(self, autoencoder: nn.Module, tiling: Tiling):
        f = autoencoder.spatial_compression
        super().__init__(f, autoencoder.latent_channels, autoencoder.latent_scale, autoencoder.latent_shift)
        for name, size in (("tile", tiling.tile), ("overlap", tiling.overlap)):
            if size % f:
                raise ValueError(f"tiling: {name} is {size}, but must be a multiple of the spatial compression {f}")
        self.autoencoder = autoencoder
        self.latent_posterior = getattr(autoencoder, "latent_posterior", "mode")
        self.released_file = released_file(autoencoder)
        self.tile, self.overlap = tiling.tile // f, tiling.overlap // f  # in latents

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return self._encode_tiles(images, self.autoencoder.encode)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior moments; in overlaps, means and standard deviations are blended separately."""
        both = self._encode_tiles(images, lambda tile: torch.cat(self.autoencoder.moments(tile), dim=1))
        return both.chunk(2, dim=1)

    def _encode_tiles(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        f = self.spatial_compression
        require_multiple_sides(images, f)
        size = images.shape[-2] // f, images.shape[-1] // f
        if max(size) <= self.tile:
            return encode(images)
        return self._blend(
            size, 1, lambda top, left, height, width: encode(
                images[..., top * f : (top + height) * f, left * f : (left + width) * f]
            )
        )  # fmt: skip

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        size = latents.shape[-2], latents.shape[-1]
        if max(size) <= self.tile:
            return self.autoencoder.decode(latents)
        return self._blend(
            size, self.spatial_compression, lambda top, left, height, width: self.autoencoder.decode(
                latents[..., top : top + height, left : left + width]
            )
        )  # fmt: skip

    def _blend(self, size: tuple[int, int], scale: int, compute: Callable[[int, int, int, int], Tensor]) -> Tensor:
        """Return the weighted mean of the tiles ``compute(top, left, height, width)``, in units of latents.

        ``scale`` is the side of the result divided by that of the latents.
        """
        height, width = min(self.tile, size[0]), min(self.tile, size[1])
        total = weights = None
        for top in _tile_starts(size[0], height, self.overlap):
            for left in _tile_starts(size[1], width, self.overlap):
                tile = compute(top, left, height, width)
                if total is None:
                    total = tile.new_zeros(*tile.shape[:2], size[0] * scale, size[1] * scale)
                    weights = total.new_zeros(total.shape[-2:])
                ramps = (_ramp(side * scale, self.overlap * scale, like=tile) for side in (height, width))
                weight = torch.outer(*ramps)
                place = (slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale))
                total[..., *place] += weight * tile
                weights[place] += weight
        return total / weights


def _tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Return the tiles' offsets along one side; the last tile ends at the edge and may overlap more."""
    return [*range(0, size - tile, tile - overlap), size - tile] if size > tile else [0]


def _ramp(size: int, overlap: int, like: Tensor) -> Tensor:
    """Return a tile's weights [size]: linear over the overlap at both ends, 1 between."""
    position = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(position, position.flip(0)).div(overlap + 1).clamp(max=1)
