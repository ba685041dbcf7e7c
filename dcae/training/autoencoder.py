# SPDX-License-Identifier: Apache-2.0
"""Training of an autoencoder, one phase at a time (DC-AE paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcae.autoencoders import folder
from dcae.autoencoders.loading import load, save
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import AutoencoderFields, AutoencoderRecipe, DatasetEntry, Phase
from dcae.data.loading import open_dataset
from dcae.data.mixture import Mixture
from dcae.files import sha256
from dcae.randomness import per_sample
from dcae.training import engine
from dcae.training.batches import Batch, batches, split
from dcae.training.gan import Adversary
from dcae.training.gradient_checkpointing import set_gradient_checkpointing
from dcae.training.layers import evaluating, freeze_all_but, last_layer
from dcae.training.logging import LogWith
from dcae.training.losses import kl_per_value
from dcae.training.optimisers import MovingAverage, Updater
from dcae.training.perceptual import perceptual_network

# Raise it when results change, and say below what each raise changed.
RESULTS_VERSION = 1

VALIDATION_IMAGES = 8  # the first ones of each dataset
SHOWN_IMAGES = 8  # of these, with their reconstructions
EVALUATION_BATCH = 16  # at most, and no more than a training step holds in memory


class Reconstruction(nn.Module):
    """Reconstruction and KL divergence of the posterior as one forward pass."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return reconstructions [B, 3, H, W], and nats per image [B] if posterior noise [B, c, h, w] is given."""
        if noise is None:
            return self.autoencoder.decode(self.autoencoder.encode(images)), None
        posterior = self.autoencoder.posterior(images)
        return self.autoencoder.decode(posterior.mean + posterior.std * noise), posterior.kl()


class PhaseTraining:
    """One phase of one autoencoder, in the parts that the training loop calls (``engine.Task``).

    With ``gradient_accumulation`` the parts of a batch run one after the other. Their mean gradient equals that of the
    whole batch up to rounding, except that BatchNorm statistics (as in the discriminator) and the adaptive GAN weight
    are those of a part, over all processes.

    Args:
        latent_scale_images: number of training images for measuring the latent scale.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        phase: Phase,
        data: Mixture,
        validation: Tensor,
        seed: int,
        accelerator: Accelerator,
        latent_scale_images: int = 4096,
    ):
        self.latent_scale_images = latent_scale_images
        at_a_time = phase.batch_size // (accelerator.num_processes * phase.gradient_accumulation)
        self.evaluation_batch = min(EVALUATION_BATCH, at_a_time)
        self.phase, self.data, self.validation, self.seed, self.accelerator = phase, data, validation, seed, accelerator
        self.autoencoder = autoencoder.to(accelerator.device)
        if phase.channels_last:  # an autoencoder may set it itself
            self.autoencoder.to(memory_format=torch.channels_last)
        freeze_all_but(self.autoencoder, phase.trains, phase.extra_blocks)
        self.average = MovingAverage(self.autoencoder, phase.ema) if phase.ema else None
        set_gradient_checkpointing(self.autoencoder, phase.gradient_checkpointing)
        self.reconstruct = engine.prepare(Reconstruction(self.autoencoder), accelerator, phase.compile)
        self.updater = Updater(self.reconstruct, phase.optimiser, phase.gradient_clip, accelerator)
        self.perceptual = None
        if phase.losses.perceptual:
            self.perceptual = perceptual_network(phase.losses.perceptual.lpips).to(
                accelerator.device, memory_format=torch.channels_last
            )
        self.adversary = None
        if phase.losses.gan:
            gan, last = phase.losses.gan, last_layer(self.autoencoder)
            self.adversary = Adversary(gan, last, phase.gradient_clip, seed, accelerator)

    def task(self) -> engine.Task:
        """Return the task of the training loop."""
        stateful = {"autoencoder": self.autoencoder, "optimiser": self.updater}
        stateful |= {"average": self.average} if self.average else {}
        stateful |= self.adversary.stateful if self.adversary else {}
        return engine.Task(
            stateful, self.batches, self.step, self.updater.learning_rate, self.save, self.validate, self.measure_scale
        )

    @property
    def finished(self) -> nn.Module:
        """The autoencoder to save: the moving average if there is one."""
        return self.average.module if self.average else self.autoencoder

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Return this process's batches of ``read``."""
        return batches(self.read, first_step, self.phase.steps, self.phase.batch_size, self.accelerator)

    def read(self, numbers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return images uint8 [b, 3, H, W] and, with a KL loss, posterior noise [b, c, h, w], on the CPU."""
        pixels = self.data.batch(numbers)
        if self.phase.losses.kl is None:
            return (pixels,)
        shape = self._latent_shape()
        noise = per_sample(lambda random: torch.randn(shape, generator=random), numbers, self.seed, "posterior")
        return pixels, noise

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Update the autoencoder and, from its start step on, the discriminator."""
        logged, pairs = [], []

        def loss_of(part: Batch) -> Tensor:
            pixels, *noise = part.content
            images = self._images(pixels)
            noise = [each.to(self.accelerator.device, non_blocking=True) for each in noise]
            reconstructions, kl = self.reconstruct(images, *noise)
            loss, terms = self._reconstruction_loss(images, reconstructions, kl)
            if self.adversary:
                weighted, terms["generator"] = self.adversary.generator_loss(reconstructions, loss, step)
                loss = loss + weighted
                pairs.append((images, reconstructions.detach()))
            logged.append({"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}})
            return loss

        self.updater.update(step, split(batch, self.phase.gradient_accumulation), loss_of)
        terms = engine.means(logged)
        if self.adversary:
            terms["discriminator"] = self.adversary.update(pairs, step)
        if self.average:
            self.average.update(self.autoencoder, step)
        return terms

    def _images(self, pixels: Tensor) -> Tensor:
        """Convert uint8 [B, 3, H, W] to float in [-1, 1] on the device."""
        images = pixels.to(self.accelerator.device, non_blocking=True).float() / 127.5 - 1
        return images.contiguous(memory_format=torch.channels_last) if self.phase.channels_last else images

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.phase.resolution // self.autoencoder.spatial_compression
        return self.autoencoder.latent_channels, side, side

    def _reconstruction_loss(
        self, images: Tensor, reconstructions: Tensor, kl: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the terms, and each unweighted term."""
        weights = self.phase.losses
        terms = {"l1": (images - reconstructions).abs().mean()}
        loss = weights.l1 * terms["l1"]
        if weights.mse:
            terms["mse"] = (images - reconstructions).square().mean()
            loss = loss + weights.mse * terms["mse"]
        if self.perceptual:
            terms["lpips"] = self.perceptual(images, reconstructions).mean()
            loss = loss + weights.perceptual.weight * terms["lpips"]
        if kl is not None:
            terms["kl"] = kl_per_value(kl, images)
            loss = loss + weights.kl * terms["kl"]
        return loss, terms

    def validate(self) -> engine.Validation:
        """Validate for the log, independent of any protocol.

        Numbers: mean PSNR in dB of the validation images, their loss without the GAN, and its terms, at the posterior
        means of a variational autoencoder. The picture shows images above their reconstructions.
        """
        rows: list[dict[str, Tensor]] = []
        shown: list[Tensor] = []
        reconstruct = Reconstruction(self.finished)
        with evaluating(self.finished):
            for pixels in self.validation.split(self.evaluation_batch):
                images = self._images(pixels)
                with_kl = self.phase.losses.kl is not None
                noise = images.new_zeros(len(images), *self._latent_shape()) if with_kl else None
                reconstructions, kl = reconstruct(images, noise)
                loss, terms = self._reconstruction_loss(images, reconstructions, kl)
                squared_error = (images - reconstructions.clamp(-1, 1)).square().mean(dim=(1, 2, 3)) / 4
                psnr = -10 * squared_error.log10().mean()  # of values in [0, 1]
                numbers = {"psnr": psnr, "loss": loss, **terms}
                rows.append({name: value * len(images) for name, value in numbers.items()})
                shown.append(torch.stack([images, reconstructions], dim=1))
        count = len(self.validation)
        numbers = {f"validation_{name}": sum(row[name] for row in rows).item() / count for name in rows[0]}
        pairs = torch.cat(shown)[:: -(-count // SHOWN_IMAGES)]  # from all datasets
        return engine.Validation(numbers, {"reconstructions": _picture(pairs)})

    def measure_scale(self) -> None:
        """Set the latent scale by measuring it, unless it is known."""
        if self.finished.latent_scale is None:
            self.finished.latent_scale = self.measured_scale()

    def measured_scale(self) -> float:
        """Return 1 / RMS of the (shifted) latents of the first training images, shared among the processes."""
        shift = torch.as_tensor(self.finished.latent_shift or 0.0).reshape(-1, 1, 1).to(self.accelerator.device)
        sums = torch.zeros(2, dtype=torch.float64)  # sum of squares, and count
        batches = torch.arange(self.latent_scale_images).split(self.evaluation_batch)
        with evaluating(self.finished):
            for numbers in batches[self.accelerator.process_index :: self.accelerator.num_processes]:
                latents = self.finished.encode(self._images(self.data.batch(numbers.tolist()))) - shift
                sums += torch.tensor([latents.double().square().sum().item(), latents.numel()], dtype=torch.float64)
        total, count = self.accelerator.reduce(sums.to(self.accelerator.device), "sum").tolist()
        return (total / count) ** -0.5

    def save(self, folder: Path) -> None:
        """Write the autoencoder."""
        save(self.finished, folder)


def _picture(pairs: Tensor) -> np.ndarray:
    """Arrange pairs of images [n, 2, 3, H, W] in [-1, 1] as columns of a picture, uint8 [2 H, n W, 3]."""
    pixels = ((pairs.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    columns, rows, channels, height, width = pixels.shape
    return pixels.permute(1, 3, 0, 4, 2).reshape(rows * height, columns * width, channels).numpy()


def _identity_of_start(start: Path | None) -> str:
    """Return the sha256 of weights and configuration that a phase starts from."""
    return "none" if start is None else " ".join(sha256(start / name) for name in (folder.WEIGHTS, folder.CONFIG))


def train_autoencoder_phase(
    entry: AutoencoderFields,
    recipe: AutoencoderRecipe,
    phase_name: str,
    datasets: Mapping[str, DatasetEntry],
    output: Path,
    state: Path,
    start: Path | None,
    seed: int,
    config_digest: str,
    time_limit_minutes: float | None = None,
    log_with: LogWith = "tensorboard",
    elsewhere: Iterable[Path] = (),
) -> None:
    """Train one phase of an autoencoder and write it into ``output``; the same call again continues or returns at once.

    Args:
        entry: the autoencoder.
        recipe: the recipe with the phase and the mixture of datasets.
        phase_name: name of the phase.
        datasets: entry of each dataset in the recipe.
        output: folder for the finished autoencoder, filled when complete.
        state: folder for checkpoints and the completion record, next to the output.
        start: folder of the autoencoder that the phase starts from; ``None`` starts from random weights.
        seed: of random weights, image order and all noise.
        config_digest: digest of the configuration that decides the result.
        time_limit_minutes: wall-clock budget; saves and stops shortly before it runs out.
        log_with: tracker of the curves; never affects results.
        elsewhere: state folders of other benchmarks; a finished training of the same identity is taken over.

    Raises:
        ConfigError: recipe, autoencoder and device do not match.
        Unfinished: stopped by a signal or the time limit; the same call continues.
        TrainingDiverged, NoProgress, StateLocked: see ``engine.run``.
    """
    phase = next((phase for phase in recipe.phases if phase.name == phase_name), None)
    if phase is None:
        raise ConfigError(f"recipe {recipe.name} has no phase {phase_name!r}: {[each.name for each in recipe.phases]}")
    if phase.resolution % entry.spatial_compression:
        raise ConfigError(
            f"{entry.name} with f{entry.spatial_compression} cannot be trained at {phase.resolution} px "
            f"(phase {phase.name} of {recipe.name}): the resolution must be a multiple of {entry.spatial_compression}"
        )
    if start is None and phase.trains != "all":
        raise ConfigError(f"phase {phase.name} trains {phase.trains} only; it needs the weights of an earlier phase")
    names = sorted(recipe.datasets)
    opened = [open_dataset(datasets[name], "train", phase.resolution, phase.crop) for name in names]
    data = Mixture(opened, [recipe.datasets[name] for name in names], seed)

    def build(accelerator: Accelerator) -> engine.Task:
        # Training images fit into memory untiled, and gradients need whole images.
        autoencoder = load(entry.model_copy(update={"tiling": None}), weights=start, seed=seed, untrained=True)
        plain = not getattr(entry, "variational", True)  # an entry of DC-AE states it
        if phase.losses.kl is not None and (plain or not hasattr(autoencoder, "posterior")):
            missing = "its entry does not say variational: true" if plain else "it has no method posterior(images)"
            raise ConfigError(f"phase {phase.name} has a KL loss, but {entry.name} has no posterior: {missing}")
        if phase.trains != "decoder-head" and entry.latent_scale is None:
            autoencoder.latent_scale = None  # measured for another encoder
        validation = [open_dataset(datasets[name], "validation", phase.resolution) for name in names]
        pixels = torch.cat([images.batch(range(min(len(images), VALIDATION_IMAGES))) for images in validation])
        return PhaseTraining(autoencoder, phase, data, pixels, seed, accelerator, recipe.latent_scale_images).task()

    engine.run(
        build,
        f"{entry.name} {phase.name}",
        phase,
        identity={
            "configuration": config_digest,
            "results_version": str(RESULTS_VERSION),
            "data": data.fingerprint,
            "start": _identity_of_start(start),
            "seed": str(seed),
        },
        seed=seed,
        output=Path(output),
        state=Path(state),
        time_limit_minutes=time_limit_minutes,
        log_with=log_with,
        elsewhere=elsewhere,
    )
