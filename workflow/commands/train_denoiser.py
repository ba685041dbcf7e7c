# SPDX-License-Identifier: Apache-2.0
"""``dcae train denoiser``: a diffusion model on latents, cached or encoded on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcae.benchmark import Benchmark, Config, ConfigError, GenerationCell, ResolvedGeneration
from dcae.training.distributed import join_slurm_step
from workflow import layout
from workflow.commands import options
from workflow.staleness.cache_identity import captions_identity, latents_identity, released_weights
from workflow.staleness.configuration import CaptionsCell
from workflow.staleness.steps import TRAIN_DENOISER
from workflow.trained import check_trained

if TYPE_CHECKING:
    from dcae.diffusion.latents.on_the_fly import EncodedOnTheFly


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
    configuration: options.Configuration = None,
    gradient_accumulation: Annotated[
        int | None, typer.Option(help="micro-batches per process and step, for the memory; default: the recipe's")
    ] = None,
) -> None:
    """Train a diffusion model on latents. The same command resumes a training that was stopped."""
    from dcae.data.loading import caption_rows, captions_fingerprint, images_fingerprint, open_dataset
    from dcae.training import denoiser

    join_slurm_step()
    benchmark = Benchmark.load(benchmark_file)
    cell = benchmark.resolve(GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size))
    options.device()
    check_trained(weights)
    on_the_fly = latents_on_the_fly(cell, benchmark.config, weights, latents, captions)
    released = None
    if on_the_fly:
        encoded = open_dataset(cell.dataset, "train", resolution, cell.recipe.crop).fingerprint
        released = None if weights else released_weights(cell.autoencoder)
    else:
        encoded = images_fingerprint(cell.dataset, "train", resolution)
    expected_captions, rows = None, None
    if captions:
        texts = captions_fingerprint(cell.dataset, "train")
        expected_captions = captions_identity(CaptionsCell(cell.dataset, "train", cell.diffusion), texts)
        rows = caption_rows(cell.dataset, "train", resolution)
    parts = {"gradient_accumulation": gradient_accumulation} if gradient_accumulation else {}
    denoiser.train_denoiser(
        entry=cell.diffusion,
        recipe=cell.recipe.model_copy(update=parts),
        latents=latents,
        patch_size=patch_size,
        output=output,
        state=state,
        seed=cell.seed,
        config_digest=TRAIN_DENOISER.planned(cell, configuration),
        expected_latents=latents_identity(cell, weights, encoded, released),
        on_the_fly=on_the_fly,
        captions=captions,
        expected_captions=expected_captions,
        caption_rows=rows,
        time_limit_minutes=time_limit,
        log_with=log_with,
        elsewhere=layout.elsewhere(state, benchmark.name, layout.DENOISER_STATE, **vars(cell.names)),
    )


def latents_on_the_fly(
    cell: ResolvedGeneration, config: Config, weights: Path | None, latents: Path | None, captions: Path | None
) -> Callable[[Any], EncodedOnTheFly] | None:
    """Return the function that opens a cell's images and autoencoder on a device; ``None`` if latents are cached.

    Raises:
        ConfigError: a folder of latents is given and not wanted, or wanted and not given.
    """
    if (latents is None) != (cell.recipe.latents == "on-the-fly"):
        given = "is missing: run dcae encode" if latents is None else "is given: leave it out"
        raise ConfigError(f"recipe {cell.recipe.name}: latents is {cell.recipe.latents}, but --latents {given}")
    if latents is not None:
        return None

    def build(device: Any) -> EncodedOnTheFly:
        from dcae.autoencoders.loading import load
        from dcae.data.loading import caption_rows, open_dataset
        from dcae.diffusion.captions.dataset import CaptionDataset
        from dcae.diffusion.latents.on_the_fly import EncodedOnTheFly
        from dcae.diffusion.latents.scale import measured_scale

        autoencoder = load(cell.autoencoder.entry, weights=weights, config=config, device=device)
        images = open_dataset(cell.dataset, "train", cell.resolution, cell.recipe.crop)
        if autoencoder.latent_scale is None:
            centred = open_dataset(cell.dataset, "train", cell.resolution)
            autoencoder.latent_scale = measured_scale(autoencoder, centred)
        rows = caption_rows(cell.dataset, "train", cell.resolution) if captions else None
        return EncodedOnTheFly(autoencoder, images, CaptionDataset(captions, rows=rows) if captions else None)

    return build
