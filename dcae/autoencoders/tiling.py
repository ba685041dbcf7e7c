# SPDX-License-Identifier: Apache-2.0
"""Images of any size: in overlapping tiles where they do not fit into memory, padded where f does not divide them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcae.autoencoders.contract import Autoencoder, require_multiple_sides
from dcae.benchmark.entries import Tiling


def reconstruct(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """Reconstructions [B, 3, H, W] of images [B, 3, H, W] in [-1, 1].

    Args:
        padding: ``reflect`` or ``replicate`` enlarges images whose sides are no multiples of f at their right and
            bottom edges, and crops what comes out.

    Raises:
        ValueError: without padding, if H or W is no multiple of f.
    """
    height, width = images.shape[-2:]
    f = autoencoder.spatial_compression
    if padding is None:
        require_multiple_sides(images, f)
        return autoencoder.decode(autoencoder.encode(images))
    right, bottom = -width % f, -height % f
    while right or bottom:  # reflection adds less than an image's own side at a time
        add_right, add_bottom = (min(right, images.shape[-1] - 1), min(bottom, images.shape[-2] - 1))
        images = F.pad(images, (0, add_right, 0, add_bottom), mode=padding)
        right, bottom = right - add_right, bottom - add_bottom
    return autoencoder.decode(autoencoder.encode(images))[..., :height, :width]


class Tiled(Autoencoder):
    """An autoencoder that sees at most ``tile`` x ``tile`` pixels at a time.

    Neighbouring tiles overlap, and are blended linearly over the overlap. For an autoencoder whose latents depend on
    pixels within the overlap alone that changes nothing; what DC-AE's global attention changes is measured in the
    tests and in ``bench/``. Metrics should be taken without tiles where memory allows.

    Raises:
        ValueError: tile or overlap is no multiple of f.
    """

    def __init__(self, autoencoder: nn.Module, tiling: Tiling):
        f = autoencoder.spatial_compression
        super().__init__(f, autoencoder.latent_channels, autoencoder.latent_scale, autoencoder.latent_shift)
        for name, size in (("tile", tiling.tile), ("overlap", tiling.overlap)):
            if size % f:
                raise ValueError(f"tiling: {name} is {size}, but must be a multiple of the spatial compression {f}")
        self.autoencoder = autoencoder
        self.latent_posterior = getattr(autoencoder, "latent_posterior", "mode")
        self.released_file = getattr(autoencoder, "released_file", None)
        self.tile, self.overlap = tiling.tile // f, tiling.overlap // f  # in latents

    def encode(self, images: Tensor) -> Tensor:  # [B, 3, H, W]
        return self._encoded(images, self.autoencoder.encode)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As of one posterior; where tiles overlap, means and standard deviations are blended each by themselves."""
        both = self._encoded(images, lambda tile: torch.cat(self.autoencoder.moments(tile), dim=1))
        return both.chunk(2, dim=1)

    def _encoded(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        f = self.spatial_compression
        require_multiple_sides(images, f)
        size = images.shape[-2] // f, images.shape[-1] // f
        if max(size) <= self.tile:
            return encode(images)
        return self._blended(
            size, 1, lambda top, left, height, width: encode(
                images[..., top * f : (top + height) * f, left * f : (left + width) * f]
            )
        )  # fmt: skip

    def decode(self, latents: Tensor) -> Tensor:  # [B, c, H/f, W/f]
        size = latents.shape[-2], latents.shape[-1]
        if max(size) <= self.tile:
            return self.autoencoder.decode(latents)
        return self._blended(
            size, self.spatial_compression, lambda top, left, height, width: self.autoencoder.decode(
                latents[..., top : top + height, left : left + width]
            )
        )  # fmt: skip

    def _blended(self, size: tuple[int, int], scale: int, compute: Callable[[int, int, int, int], Tensor]) -> Tensor:
        """What ``compute(top, left, height, width)``, in latents, gives for each tile, as weighted means of the tiles.

        ``scale`` is the side of the result in units of the latents' side.
        """
        height, width = min(self.tile, size[0]), min(self.tile, size[1])
        total = weights = None
        for top in _starts(size[0], height, self.overlap):
            for left in _starts(size[1], width, self.overlap):
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


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side; the last one ends at the edge and may overlap more."""
    return [*range(0, size - tile, tile - overlap), size - tile] if size > tile else [0]


def _ramp(size: int, overlap: int, like: Tensor) -> Tensor:
    """Weights [size] of a tile: linear over the overlap at both ends, 1 between."""
    position = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(position, position.flip(0)).div(overlap + 1).clamp(max=1)
