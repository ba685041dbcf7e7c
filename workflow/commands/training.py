# SPDX-License-Identifier: Apache-2.0
"""``dcae train`` and ``dcae encode``: what makes weights and latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcae.benchmark import Benchmark, ConfigError, GenerationCell, digests
from dcae.files import sha256
from dcae.training.processes import join_slurm_step
from workflow.commands import options
from workflow.steps import code_of, code_of_denoiser

if TYPE_CHECKING:
    from dcae.diffusion import EncodedOnTheFly


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
    from dcae.training import train_autoencoder_phase

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


def latents_identity(
    benchmark: Benchmark, dataset: str, resolution: int, autoencoder: str, weights: Path | None
) -> dict[str, str]:
    """What made a folder of latents; whoever reads latents of another identity refuses them.

    Digests tell everything apart; what stands here besides is for the error, which names what differs.
    """
    entry = benchmark.autoencoder(autoencoder)
    stored = json.loads((weights / "config.json").read_text()) if weights else {}
    below = entry
    while below.kind == "space-to-channel":
        below = benchmark.autoencoder(below.autoencoder)
    return {
        "autoencoder": autoencoder,
        "dataset": dataset,
        "resolution": str(resolution),
        "posterior": getattr(below, "posterior", "mode"),
        "latent_scale": str(_first_given(entry.latent_scale, stored.get("scaling_factor"), "as released")),
        "latent_shift": str(_first_given(entry.latent_shift, stored.get("shift_factor"), "as released")),
        "config": digests.latents_digest(benchmark, dataset, resolution, autoencoder),
        "code": code_of("encode", benchmark, [dataset], autoencoder),
        "weights": sha256(weights / "diffusion_pytorch_model.safetensors") if weights else "none",
    }


def _first_given(*values: Any) -> Any:
    return next(value for value in values if value is not None)


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
    from dcae.autoencoders import load
    from dcae.data import open_dataset
    from dcae.diffusion import encode_dataset

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    model = load(benchmark.autoencoder(autoencoder), weights=weights, config=benchmark.config, device=device)
    which = f"  process {process + 1}/{processes}" if processes > 1 else ""
    encode_dataset(
        model,
        open_dataset(benchmark.dataset(dataset), "train", resolution),
        folder=output,
        identity=latents_identity(benchmark, dataset, resolution, autoencoder, weights),
        seed=benchmark.seed,
        process=process,
        processes=processes,
        progress=lambda done, images: print(f"{autoencoder}{which}  {done}/{images} images", flush=True),
    )


def captions_identity(benchmark: Benchmark, dataset: str, split: str, diffusion: str) -> dict[str, str]:
    """What made a folder of embedded captions, as ``latents_identity``.

    Raises:
        ConfigError: the diffusion model is not conditioned on captions.
    """
    entry = benchmark.diffusion(diffusion)
    if entry.conditioning != "caption":
        raise ConfigError(f"diffusion entry {diffusion}: conditioning is {entry.conditioning}, so it takes no captions")
    encoder = entry.text_encoder
    return {
        "dataset": dataset,
        "split": split,
        "text_encoder": encoder.pretrained.id if encoder.pretrained else f"random weights of seed {encoder.seed}",
        "tokens": str(encoder.tokens),
        "config": digests.captions_digest(benchmark, dataset, diffusion),
        "code": code_of("captions", benchmark, [dataset]),
    }


def captions(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    dataset: options.DatasetName,
    split: Annotated[Literal["train", "validation"], typer.Option(help="whose captions")],
    output: options.Output,
) -> None:
    """Embed a data set's captions once, with a diffusion model's text encoder; shared and resumed as dcae encode."""
    from dcae.data import open_dataset
    from dcae.diffusion import T5TextEncoder, encode_captions

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    identity = captions_identity(benchmark, dataset, split, diffusion)
    encode_captions(
        T5TextEncoder(benchmark.diffusion(diffusion).text_encoder, device),
        open_dataset(benchmark.dataset(dataset), split, resolution=64),  # captions are those of any resolution
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
        from dcae.autoencoders import load
        from dcae.data import open_dataset
        from dcae.diffusion import CaptionDataset, EncodedOnTheFly

        autoencoder = load(
            benchmark.autoencoder(cell.autoencoder), weights=weights, config=benchmark.config, device=device
        )
        images = open_dataset(benchmark.dataset(cell.dataset), "train", cell.resolution, recipe.crop)
        return EncodedOnTheFly(autoencoder, images, CaptionDataset(captions) if captions else None)

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
    from dcae.data import open_dataset

    join_slurm_step()
    benchmark = Benchmark.load(benchmark_file)
    cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    entry = benchmark.diffusion(diffusion)
    recipe = benchmark.recipe(entry.recipe)
    options.device()
    identity = latents_identity(benchmark, dataset, resolution, autoencoder, weights)
    on_the_fly = latents_on_the_fly(benchmark, cell, weights, latents, captions)
    if on_the_fly:
        images = open_dataset(benchmark.dataset(dataset), "train", resolution, recipe.crop)
        identity |= {"images": images.fingerprint}
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
        expected_latents=identity,
        on_the_fly=on_the_fly,
        captions=captions,
        expected_captions=captions_identity(benchmark, dataset, "train", diffusion) if captions else None,
        time_limit_minutes=time_limit,
        log_with=log_with,
    )
