# SPDX-License-Identifier: Apache-2.0
"""PatchGAN discriminator, as latent diffusion's autoencoders use it (Isola et al. 2017; Rombach et al. 2022)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

SLOPE = 0.2
LARGEST_FACTOR = 8  # of the width


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of images as real (positive) or not.

    ``layers`` convolutions of stride 2 and two of stride 1, kernel 4; with three layers each logit sees 70 x 70 pixels.
    All but the first and the last convolution are followed by BatchNorm. Initialised as in pix2pix: N(0, 0.02) for
    convolutions, N(1, 0.02) for the scales of BatchNorm.
    """

    def __init__(self, layers: int = 3, width: int = 64):
        super().__init__()
        widths = [width * min(2**i, LARGEST_FACTOR) for i in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if i < layers else 1
            modules += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.main = nn.Sequential(*modules, nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.apply(_initialise)

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:  # each [B, 3, H, W]
        """Logits [B, 1, h, w] of each batch; each has its own batch statistics."""
        return tuple(self.main(images) for images in batches)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
