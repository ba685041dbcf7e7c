# SPDX-License-Identifier: Apache-2.0
"""Loss terms of autoencoders, each a mean over elements, so that weights do not depend on the resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_ADAPTIVE_WEIGHT = 1e4
SMALL = 1e-4


def kl_per_value(kl: Tensor, images: Tensor) -> Tensor:
    """Convert KL divergences [B] in nats per image to mean nats per value of the images [B, 3, H, W].

    Latent diffusion adds 1e-6 times the divergence to errors *summed* over pixels. Errors are means here, so the
    divergence is divided by the number of values too, and the published weight keeps its meaning.
    """
    return kl.mean() / images[0].numel()


def discriminator_hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's hinge loss, from its logits of real and reconstructed images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_hinge_loss(fake: Tensor) -> Tensor:
    """Return the autoencoder's hinge loss, from the discriminator's logits of its reconstructions."""
    return -fake.mean()


def adaptive_weight(reconstruction_gradient: Tensor, gan_gradient: Tensor, values_per_image: int) -> Tensor:
    """Return the ratio of gradient norms at the last layer (Esser et al. 2021, equation 7), with an upper bound.

    Latent diffusion's bound of 1e4 is for errors summed over an image; it is divided by the number of values here.
    """
    ratio = reconstruction_gradient.norm() / (gan_gradient.norm() + SMALL)
    return torch.clamp(ratio, max=LARGEST_ADAPTIVE_WEIGHT / values_per_image).detach()
