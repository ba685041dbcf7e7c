# SPDX-License-Identifier: Apache-2.0
"""The adversarial part of an autoencoder's training: discriminator, its optimiser, and the weight of its verdict."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcae.benchmark.entries import PatchGAN
from dcae.training import engine
from dcae.training.discriminator import PatchDiscriminator
from dcae.training.losses import adaptive_weight, discriminator_hinge_loss, generator_hinge_loss
from dcae.training.optimisers import Updater
from dcae.training.randomness import seeded


class Adversary:
    """One discriminator step for each step of the autoencoder, from ``start_step`` on.

    Args:
        settings: of the recipe.
        last_layer: weight of the layer that makes the image, where the adaptive weight compares gradients.
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
            self.discriminator = PatchDiscriminator(settings.layers, settings.width).to(accelerator.device)
        self.parallel = engine.prepare(self.discriminator, accelerator)
        self.updater = Updater(self.parallel, settings.optimiser, gradient_clip, accelerator)
        self.stateful = {"discriminator": self.discriminator, "discriminator optimiser": self.updater}

    def is_on(self, step: int) -> bool:
        """False before ``start_step``, when nothing here runs."""
        return step >= self.settings.start_step

    def generator_loss(self, reconstructions: Tensor, reconstruction_loss: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What the autoencoder minimises to convince the discriminator: (with its weight, without), scalars.

        Both are 0 before ``start_step``. With ``adaptive_weight`` the loss is also scaled so that its gradient at the
        last layer is as large as that of ``reconstruction_loss``. A batch that comes in parts has a weight for each.
        """
        if not self.is_on(step):
            return reconstruction_loss.new_zeros(()), reconstruction_loss.new_zeros(())
        # Not through DDP and without gradients of its own: in this pass the discriminator only passes them on.
        self.discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            (logits,) = self.discriminator(reconstructions)
        self.discriminator.requires_grad_(True)
        loss = generator_hinge_loss(logits.float())
        weight = self.settings.weight
        if self.settings.adaptive_weight:
            gradients = self._gradient(reconstruction_loss), self._gradient(loss)
            ratio = adaptive_weight(*gradients, reconstructions[0].numel())
            # Both gradients overflowed in fp16. So does the backward pass, and the scaler skips this update.
            weight = weight * (ratio.nan_to_num(nan=1.0) if self.accelerator.scaler else ratio)
        return weight * loss, loss.detach()

    def update(self, pairs: Sequence[tuple[Tensor, Tensor]], step: int) -> Tensor:
        """One step of the discriminator; its loss.

        Args:
            pairs: for each part of the batch, real images and (detached) reconstructions, both [b, 3, H, W].
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
        """Gradient of a loss at the last layer, over all processes; in fp16 computed at the scale of the scaler."""
        scaler = self.accelerator.scaler
        scaled = scaler.scale(loss) if scaler else loss
        (gradient,) = torch.autograd.grad(scaled, self.last_layer, retain_graph=True)
        gradient = self.accelerator.reduce(gradient, "mean")
        return gradient / scaler.get_scale() if scaler else gradient
