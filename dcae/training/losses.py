# SPDX-License-Identifier: Apache-2.0
"""The terms of an autoencoder's loss, each a mean over elements, so that weights do not depend on the resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_ADAPTIVE_WEIGHT = 1e4
SMALL = 1e-4


def kl_per_value(kl: Tensor, images: Tensor) -> Tensor:
    """KL divergence [B], in nats per image, as nats per value of the images [B, 3, H, W]; a scalar.

    Latent diffusion adds 1e-6 of the divergence to errors *summed* over pixels. Here errors are means, so the
    divergence is divided by the number of values likewise: the published weight keeps its meaning.
    """
    return kl.mean() / images[0].numel()


def discriminator_hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator, from its logits of real and of reconstructed images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_hinge_loss(fake: Tensor) -> Tensor:
    """Hinge loss of the autoencoder, from the discriminator's logits of its reconstructions."""
    return -fake.mean()


def adaptive_weight(reconstruction_gradient: Tensor, gan_gradient: Tensor, values_per_image: int) -> Tensor:
    """The ratio of two losses' gradient norms at the last layer (Esser et al. 2021, equation 7), with an upper bound.

    The bound is 1e4 for errors that are summed over an image, as in latent diffusion; for means it is as much smaller
    as they are.
    """
    ratio = reconstruction_gradient.norm() / (gan_gradient.norm() + SMALL)
    return torch.clamp(ratio, max=LARGEST_ADAPTIVE_WEIGHT / values_per_image).detach()
