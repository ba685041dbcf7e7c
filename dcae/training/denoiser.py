# SPDX-License-Identifier: Apache-2.0
"""Training of a diffusion model on latents, cached or encoded on the fly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import DiffusionEntry, DiffusionRecipe, digest
from dcae.data.mixture import epoch_index
from dcae.diffusion.captions.dataset import CaptionDataset, Captions
from dcae.diffusion.latents.cached import LatentDataset
from dcae.diffusion.latents.encode import plain
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.checkpoint import save_denoiser
from dcae.diffusion.models.u_vit import UViT
from dcae.diffusion.objectives import Coefficients, coefficients, diffusion_losses, draw_training_inputs
from dcae.randomness import derived_seed, seeded
from dcae.shards import read_index
from dcae.training import engine
from dcae.training.batches import Batch, batches, split
from dcae.training.logging import LogWith
from dcae.training.optimisers import MovingAverage, Updater

# Raise it when results change, and say below what each raise changed.
# 2: posterior samples of latents (cached moments, or encoded on the fly) are seeded by dcae.randomness.
# 3: the bound at timestep 0 takes DiT's approximation of the normal distribution function.
RESULTS_VERSION = 3


class Latents(Protocol):
    """Training data: ``LatentDataset`` or ``EncodedOnTheFly``.

    ``condition(indices)`` and ``read(indices, draws, seed)`` run in loader processes, ``latents(*read)`` on the
    training's device.
    """

    shape: tuple[int, int, int]
    classes: int
    latent_scale: float | list[float]
    captions: CaptionDataset | None

    def __len__(self) -> int: ...

    def condition(self, indices: Sequence[int]) -> tuple[Tensor, ...]: ...

    def read(self, indices: Sequence[int], draws: Sequence[int], seed: int) -> tuple[Tensor, ...]: ...

    def latents(self, *read: Tensor) -> Tensor: ...


def read_samples(
    data: Latents, numbers: Sequence[int], null_label: int, recipe: DiffusionRecipe, seed: int
) -> tuple[Tensor, ...]:
    """Return timesteps [B], noise [B, c, h, w], labels or captions, and the input of ``data.latents``, on the CPU.

    Sample k depends only on (seed, k), not on its batch.
    """
    indices = [epoch_index(len(data), seed, number) for number in numbers]
    condition = data.condition(indices)
    captions = data.captions
    # Captions are dropped like labels: 0 is a caption, 1 is none.
    labels = condition[0] if captions is None else torch.zeros(len(numbers), dtype=torch.long)
    null_label = null_label if captions is None else 1
    noise, random, drawn = torch.empty(len(numbers), *data.shape), torch.Generator(), []
    for label, out, number in zip(labels.split(1), noise.split(1), numbers, strict=True):
        random.manual_seed(derived_seed(seed, "sample", number))
        drawn.append(draw_training_inputs(label, data.shape, null_label, recipe, random, out)[:2])
    labels, timesteps = (torch.cat(each) for each in zip(*drawn, strict=True))
    if captions is not None:
        for each, empty in zip(condition, captions.empty, strict=True):
            each[labels == 1] = empty
    known = (labels,) if captions is None else condition
    return timesteps, noise, *known, *data.read(indices, numbers, seed)


class Objective(nn.Module):
    """A denoiser and its loss as one forward pass.

    The noise schedule's coefficients are buffers: compiled, a look-up would be computed on the CPU and copied in each
    step.
    """

    def __init__(self, denoiser: nn.Module, recipe: DiffusionRecipe):
        super().__init__()
        self.denoiser, self.recipe = denoiser, recipe
        if recipe.noise_schedule:
            for name, values in coefficients(recipe.noise_schedule, torch.device("cpu"))._asdict().items():
                self.register_buffer(name, values, persistent=False)

    def forward(
        self, latents: Tensor, condition: Tensor | Captions, timesteps: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss terms of each sample, [B]."""
        buffers = dict(self.named_buffers(recurse=False))
        table = Coefficients(**buffers) if buffers else None
        return diffusion_losses(self.denoiser, latents, condition, timesteps, noise, self.recipe, table)


def set_token_precision(denoiser: nn.Module, settings: DiffusionRecipe) -> None:
    """Let a U-ViT's tokens take the precision of autocast.

    Raises:
        ConfigError: the denoiser is of another architecture.
    """
    if not isinstance(denoiser, UViT):
        raise ConfigError(
            f"token_precision is {settings.token_precision} in {settings.name}, which only U-ViT has: leave it out for "
            f"{type(denoiser).__name__}"
        )
    denoiser.tokens_follow_autocast = True


class DenoiserTraining:
    """One training of one denoiser, in the parts that the training loop calls (``engine.Task``)."""

    def __init__(
        self, denoiser: nn.Module, recipe: DiffusionRecipe, latents: Latents, seed: int, accelerator: Accelerator
    ):
        self.recipe, self.data, self.seed, self.accelerator = recipe, latents, seed, accelerator
        self.denoiser = denoiser.to(accelerator.device)
        self.denoiser.gradient_checkpointing = recipe.gradient_checkpointing
        if recipe.token_precision:
            set_token_precision(self.denoiser, recipe)
        self.average = MovingAverage(self.denoiser, recipe.ema) if recipe.ema else None
        self.losses = engine.prepare(Objective(self.denoiser, recipe), accelerator, recipe.compile)
        self.updater = Updater(self.losses, recipe.optimiser, recipe.gradient_clip, accelerator)

    def task(self, metadata: dict[str, Any]) -> engine.Task:
        """Return the task of the training loop; the metadata is saved with the weights."""
        stateful = {"denoiser": self.denoiser, "optimiser": self.updater}
        stateful |= {"average": self.average} if self.average else {}
        finished = self.average.module if self.average else self.denoiser
        return engine.Task(
            stateful,
            self.batches,
            self.step,
            learning_rate=self.updater.learning_rate,
            save=lambda folder: save_denoiser(finished, folder, metadata),
        )

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Return this process's batches of ``read``."""
        return batches(self.read, first_step, self.recipe.steps, self.recipe.batch_size, self.accelerator)

    def read(self, numbers: range) -> tuple[Tensor, ...]:
        """Return the samples of the given global numbers; see ``read_samples``."""
        return read_samples(self.data, numbers, self.denoiser.null_label, self.recipe, self.seed)

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Update the denoiser."""
        logged = []

        def loss_of(part: Batch) -> Tensor:
            inputs = [each.to(self.accelerator.device, non_blocking=True) for each in part.content]
            timesteps, noise, condition, *read = inputs
            if self.data.captions is not None:
                condition, read = Captions(condition.float(), read[0]), read[1:]
            losses = self.losses(self.data.latents(*read), condition, timesteps, noise)
            terms = {name: values.mean() for name, values in losses.items()}
            loss = sum(terms.values())
            logged.append({"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}})
            return loss

        self.updater.update(step, split(batch, self.recipe.gradient_accumulation), loss_of)
        if self.average:
            self.average.update(self.denoiser, step)
        return engine.means(logged)


def fingerprint(latents: Path) -> str:
    """Return the digest of the latents and their normalisation, independent of their code and configuration."""
    return _content(latents, "shape", "classes", "latent_scale", "latent_shift")


def _content(folder: Path, *fields: str) -> str:
    """Return the digest of a folder's shards and of the given fields of its index."""
    index = read_index(folder, "the dataset")
    return digest({**{name: index[name] for name in fields}, "shards": list(index["shards"].values())})


def train_denoiser(
    entry: DiffusionEntry,
    recipe: DiffusionRecipe,
    latents: Path | None,
    patch_size: int,
    output: Path,
    state: Path,
    seed: int,
    config_digest: str,
    expected_latents: dict[str, Any] | None = None,
    on_the_fly: Callable[[torch.device], Latents] | None = None,
    captions: Path | None = None,
    expected_captions: dict[str, Any] | None = None,
    caption_rows: np.ndarray | None = None,
    time_limit_minutes: float | None = None,
    log_with: LogWith = "tensorboard",
    elsewhere: Iterable[Path] = (),
) -> None:
    """Train a denoiser and write it into ``output``; the same call again continues or returns at once.

    Args:
        entry: the diffusion model.
        recipe: the recipe of the training.
        latents: folder of ``encode_dataset``; ``None`` if the recipe's latents are encoded on the fly.
        patch_size: p.
        output: folder for the finished denoiser (the moving average if the recipe has one), filled when complete.
        state: folder for checkpoints and the completion record, next to the output.
        seed: of initial weights, order of the latents and all noise.
        config_digest: digest of the configuration that decides the result.
        expected_latents: required identity of the latents, cached or on the fly.
        on_the_fly: returns images and autoencoder, given the device to encode on.
        captions: folder of ``encode_captions`` of the same images, for an entry conditioned on them.
        expected_captions: required identity of the captions.
        caption_rows: rows of the captions that belong to the images, as in ``CaptionDataset``.
        time_limit_minutes: wall-clock budget; saves and stops shortly before it runs out.
        log_with: tracker of the curves; never affects results.
        elsewhere: state folders of other benchmarks; a finished training of the same identity is taken over.

    Raises:
        CacheError: latents or captions are of another identity or damaged.
        ConfigError: captions are missing or unexpected, or patch size or batch size do not fit.
        Unfinished: stopped by a signal or the time limit; the same call continues.
        TrainingDiverged, NoProgress, StateLocked: see ``engine.run``.
    """
    if (captions is None) != (entry.conditioning != "caption"):
        given = "missing: embed them with `dcae captions`" if captions is None else "given: leave them out"
        raise ConfigError(f"{entry.name}: conditioning is {entry.conditioning}, but captions are {given}")
    embedded = CaptionDataset(captions, expected_captions, caption_rows) if captions else None
    cached = LatentDataset(latents, expected_latents, embedded) if recipe.latents == "cached" else None
    data = fingerprint(Path(latents)) if cached else digest(expected_latents)
    rows = [] if caption_rows is None else [caption_rows.tolist()]
    identity = {
        "configuration": config_digest,
        "results_version": str(RESULTS_VERSION),
        "data": digest(data, _content(Path(captions), "shape"), *rows) if captions else data,
        "patch_size": str(patch_size),
        "seed": str(seed),
    }

    def build(accelerator: Accelerator) -> engine.Task:
        data = cached or on_the_fly(accelerator.device)
        for folder in filter(None, (cached, embedded)):
            folder.check_files()
        channels, side, _ = data.shape
        with seeded(seed, "denoiser"):
            denoiser = build_denoiser(entry, channels, side, patch_size, data.classes)
        metadata = {"identity": identity, "latent_scale": plain(data.latent_scale)}
        return DenoiserTraining(denoiser, recipe, data, seed, accelerator).task(metadata)

    engine.run(
        build,
        f"{entry.name} p{patch_size} on {Path(latents).name if cached else 'images'}",
        recipe,
        identity=identity,
        seed=seed,
        output=Path(output),
        state=Path(state),
        time_limit_minutes=time_limit_minutes,
        log_with=log_with,
        elsewhere=elsewhere,
    )
