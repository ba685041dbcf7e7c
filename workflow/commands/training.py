# SPDX-License-Identifier: Apache-2.0
"""``dcae train`` and ``dcae encode``: what makes weights and latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcae.benchmark import Benchmark, ConfigError, GenerationCell, digests
from dcae.training.distributed import join_slurm_step
from dcae.weights.hub import weights_sha256
from workflow.commands import options
from workflow.identities import captions_identity, latents_identity, released_weights
from workflow.steps import code_of, code_of_denoiser

if TYPE_CHECKING:
    from dcae.diffusion.latents.on_the_fly import EncodedOnTheFly


def train_autoencoder(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    phase: Annotated[str, typer.Option(help="phase of the autoencoder's recipe")],
    output: options.Output,
    state: options.State,
    start: Annotated[Path | None, typer.Option(help="folder of the weights to start from")] = None,
    time_limit: options.TimeLimit = None,
    log_with: options.LogWith = "tensorboard",
) -> None:
    """Train one phase of an autoencoder; the same command again goes on where the last one stopped."""
    from dcae.training.autoencoder import train_autoencoder_phase

    join_slurm_step()
    benchmark = Benchmark.load(benchmark_file)
    training = benchmark.training(autoencoder, phase)
    entry = benchmark.autoencoder(autoencoder)
    recipe = benchmark.recipe(entry.recipe)
    options.device()
    train_autoencoder_phase(
        entry=entry,
        recipe=recipe,
        phase_name=phase,
        datasets={name: benchmark.dataset(name) for name in recipe.datasets},
        output=output,
        state=state,
        start=start,
        seed=benchmark.seed,
        config_digest=digests.training_digest(benchmark, training),
        code_digest=code_of("train_autoencoder", benchmark, recipe.datasets, autoencoder),
        time_limit_minutes=time_limit,
        log_with=log_with,
    )


def encode(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: options.Output,
    weights: options.Weights = None,
) -> None:
    """Encode a data set's training images once; resumes shard by shard.

    Several processes share the shards, each with a GPU of its own, if torchrun or srun starts them:
    torchrun --standalone --nproc-per-node 8 --no-python -- dcae encode …
    """
    from dcae.autoencoders.loading import load
    from dcae.autoencoders.tiling import images_at_once
    from dcae.data.loading import open_dataset
    from dcae.diffusion.latents.encode import encode_dataset

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    model = load(benchmark.autoencoder(autoencoder), weights=weights, config=benchmark.config, device=device)
    images = open_dataset(benchmark.dataset(dataset), "train", resolution)
    released = weights_sha256(model)
    which = f"  process {process + 1}/{processes}" if processes > 1 else ""
    encode_dataset(
        model,
        images,
        folder=output,
        identity=latents_identity(benchmark, dataset, resolution, autoencoder, weights, images.fingerprint, released),
        batch_size=images_at_once(resolution, 32),
        workers=options.readers(device),
        seed=benchmark.seed,
        process=process,
        processes=processes,
        progress=lambda done, images: print(f"{autoencoder}{which}  {done}/{images} images", flush=True),
    )


def captions(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    dataset: options.DatasetName,
    split: Annotated[Literal["train", "validation"], typer.Option(help="whose captions")],
    output: options.Output,
) -> None:
    """Embed a data set's captions once, with a diffusion model's text encoder; shared and resumed as dcae encode."""
    from dcae.data.loading import open_captioned
    from dcae.diffusion.captions.encode import encode_captions
    from dcae.diffusion.captions.t5 import T5TextEncoder

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    images = open_captioned(benchmark.dataset(dataset), split)
    identity = captions_identity(benchmark, dataset, split, diffusion, images.captions_fingerprint)
    encode_captions(
        T5TextEncoder(benchmark.diffusion(diffusion).text_encoder, device),
        images,
        folder=output,
        identity=identity,
        process=process,
        processes=processes,
        progress=lambda done, total: print(f"captions of {dataset}  {done}/{total}", flush=True),
    )


def latents_on_the_fly(
    benchmark: Benchmark,
    cell: GenerationCell,
    weights: Path | None,
    latents: Path | None,
    captions: Path | None,
) -> Callable[[Any], EncodedOnTheFly] | None:
    """What makes a cell's latents on a device if its recipe says on-the-fly; ``None`` if they are cached.

    Raises:
        ConfigError: a folder of latents is given and not wanted, or wanted and not given.
    """
    recipe = benchmark.recipe(benchmark.diffusion(cell.diffusion).recipe)
    if (latents is None) != (recipe.latents == "on-the-fly"):
        what = "gives none: run dcae encode" if latents is None else "gives a folder: leave it out"
        raise ConfigError(f"recipe {recipe.name}: latents is {recipe.latents}, but --latents {what}")
    if latents is not None:
        return None

    def build(device: Any) -> EncodedOnTheFly:
        from dcae.autoencoders.loading import load
        from dcae.data.loading import caption_rows, open_dataset
        from dcae.diffusion.captions.dataset import CaptionDataset
        from dcae.diffusion.latents.on_the_fly import EncodedOnTheFly

        autoencoder = load(
            benchmark.autoencoder(cell.autoencoder), weights=weights, config=benchmark.config, device=device
        )
        images = open_dataset(benchmark.dataset(cell.dataset), "train", cell.resolution, recipe.crop)
        rows = caption_rows(benchmark.dataset(cell.dataset), "train", cell.resolution) if captions else None
        return EncodedOnTheFly(autoencoder, images, CaptionDataset(captions, rows=rows) if captions else None)

    return build


def train_denoiser(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: options.Output,
    state: options.State,
    latents: options.Latents = None,
    captions: options.Captions = None,
    weights: options.Weights = None,
    time_limit: options.TimeLimit = None,
    log_with: options.LogWith = "tensorboard",
) -> None:
    """Train a diffusion model on latents; the same command again goes on where the last one stopped."""
    from dcae import training
    from dcae.data.fingerprints import captions_fingerprint, images_fingerprint
    from dcae.data.loading import caption_rows, open_dataset

    join_slurm_step()
    benchmark = Benchmark.load(benchmark_file)
    cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    entry = benchmark.diffusion(diffusion)
    recipe = benchmark.recipe(entry.recipe)
    options.device()
    images = benchmark.dataset(dataset)
    on_the_fly = latents_on_the_fly(benchmark, cell, weights, latents, captions)
    released = None
    if on_the_fly:
        encoded = open_dataset(images, "train", resolution, recipe.crop).fingerprint
        released = None if weights else released_weights(benchmark, autoencoder)
    else:
        encoded = images_fingerprint(images, "train", resolution)
    expected_captions, rows = None, None
    if captions:
        texts = captions_fingerprint(images, "train")
        expected_captions = captions_identity(benchmark, dataset, "train", diffusion, texts)
        rows = caption_rows(images, "train", resolution)
    training.train_denoiser(
        entry=entry,
        recipe=recipe,
        latents=latents,
        patch_size=patch_size,
        output=output,
        state=state,
        seed=benchmark.seed,
        config_digest=digests.denoiser_digest(benchmark, cell),
        code_digest=code_of_denoiser(benchmark, cell),
        expected_latents=latents_identity(benchmark, dataset, resolution, autoencoder, weights, encoded, released),
        on_the_fly=on_the_fly,
        captions=captions,
        expected_captions=expected_captions,
        caption_rows=rows,
        time_limit_minutes=time_limit,
        log_with=log_with,
    )
