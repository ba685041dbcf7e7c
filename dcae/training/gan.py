# SPDX-License-Identifier: Apache-2.0
"""GAN training of autoencoders: PatchGAN discriminator, its updates, and the GAN loss with its (adaptive) weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcae.benchmark.entries import PatchGAN
from dcae.randomness import seeded
from dcae.training import engine
from dcae.training.losses import adaptive_weight, discriminator_hinge_loss, generator_hinge_loss
from dcae.training.optimisers import Updater

SLOPE = 0.2
LARGEST_FACTOR = 8  # of the width


class PatchDiscriminator(nn.Module):
    """PatchGAN discriminator (Isola et al. 2017; Rombach et al. 2022): real patches get positive logits.

    ``layers`` convolutions of stride 2 and two of stride 1, kernel 4; with three layers each logit sees 70 x 70 pixels.
    All convolutions but the first and last are followed by BatchNorm. Initialised as in pix2pix: N(0, 0.02) for
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
        """Return logits [B, 1, h, w] of each batch; each has its own batch statistics."""
        return tuple(self.main(images) for images in batches)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Adversary:
    """Discriminator, updated once per step of the autoencoder from ``start_step`` on.

    Args:
        settings: of the recipe.
        last_layer: weight of the layer that outputs the image, where the adaptive weight compares gradients.
        gradient_clip: as for the autoencoder.
        seed: of the initial weights.
        accelerator: device, processes and precision.
    """

    def __init__(
        self,
        settings: PatchGAN,
        last_layer: nn.Parameter,
        gradient_clip: float | None,
        seed: int,
        accelerator: Accelerator,
    ):
        self.settings, self.last_layer, self.accelerator = settings, last_layer, accelerator
        with seeded(seed, "discriminator"):
            discriminator = PatchDiscriminator(settings.layers, settings.width)
        self.discriminator = discriminator.to(accelerator.device, memory_format=torch.channels_last)
        self.parallel = engine.prepare(self.discriminator, accelerator)
        self.updater = Updater(self.parallel, settings.optimiser, gradient_clip, accelerator)
        self.stateful = {"discriminator": self.discriminator, "discriminator optimiser": self.updater}

    def is_on(self, step: int) -> bool:
        """Return whether ``start_step`` is reached."""
        return step >= self.settings.start_step

    def generator_loss(self, reconstructions: Tensor, reconstruction_loss: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the autoencoder's GAN loss, weighted and unweighted, as scalars.

        Both are 0 before ``start_step``. With ``adaptive_weight`` the loss is also scaled to the gradient norm of
        ``reconstruction_loss`` at the last layer, separately for each part of a batch.
        """
        if not self.is_on(step):
            return reconstruction_loss.new_zeros(()), reconstruction_loss.new_zeros(())
        # Not through DDP and frozen: in this pass the discriminator only passes gradients on.
        self.discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            (logits,) = self.discriminator(reconstructions)
        self.discriminator.requires_grad_(True)
        loss = generator_hinge_loss(logits.float())
        weight = self.settings.weight
        if self.settings.adaptive_weight:
            gradients = self._gradient(reconstruction_loss), self._gradient(loss)
            ratio = adaptive_weight(*gradients, reconstructions[0].numel())
            # NaN: both gradients overflowed in fp16, so the backward pass does too, and the scaler skips this update.
            weight = weight * (ratio.nan_to_num(nan=1.0) if self.accelerator.scaler else ratio)
        return weight * loss, loss.detach()

    def update(self, pairs: Sequence[tuple[Tensor, Tensor]], step: int) -> Tensor:
        """Take one step of the discriminator and return its loss.

        Args:
            pairs: real images and detached reconstructions, both [b, 3, H, W], of each part of the batch.
            step: of the autoencoder.
        """
        if not self.is_on(step):
            return pairs[0][0].new_zeros(())
        losses = []

        def loss_of(pair: tuple[Tensor, Tensor]) -> Tensor:
            real, fake = self.parallel(*pair)
            loss = discriminator_hinge_loss(real.float(), fake.float())
            losses.append(loss.detach())
            return loss

        self.updater.update(step - self.settings.start_step, pairs, loss_of)
        return torch.stack(losses).mean()

    def _gradient(self, loss: Tensor) -> Tensor:
        """Return a loss's gradient at the last layer, averaged over processes; scaled during computation in fp16."""
        scaler = self.accelerator.scaler
        scaled = scaler.scale(loss) if scaler else loss
        (gradient,) = torch.autograd.grad(scaled, self.last_layer, retain_graph=True)
        gradient = self.accelerator.reduce(gradient, "mean")
        # The scale as a tensor: ``get_scale`` waits for the device.
        return gradient / scaler.scale(gradient.new_ones(())) if scaler else gradient
