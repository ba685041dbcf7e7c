# SPDX-License-Identifier: Apache-2.0
"""``dcae reference``, ``evaluate``, ``generate`` and ``profile``: what writes records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record, digests
from workflow.commands import options
from workflow.commands.training import latents_identity, latents_on_the_fly
from workflow.provenance import device_description, input_hashes, provenance
from workflow.steps import code_of

ReferenceFile = Annotated[Path, typer.Option("--reference", help="reference features, from dcae reference")]
ImagesFile = Annotated[Path, typer.Option("--images", help="PNG of samples to write")]


def _number_class(benchmark: Benchmark, autoencoder: str) -> str:
    if benchmark.group(autoencoder) == "controls":
        return "control"
    return "reproduced" if benchmark.final_training(autoencoder) else "re-evaluated"


def reference(
    benchmark_file: options.BenchmarkFile,
    purpose: Annotated[Literal["reconstruction", "generation"], typer.Option(help="which cells it serves")],
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: Annotated[Path, typer.Option("--output", help="file to write")],
) -> None:
    """Features of real images, computed once and shared by every cell of a data set and resolution."""
    from dcae.data import open_dataset
    from evaluation import write_reference

    benchmark = Benchmark.load(benchmark_file)
    protocol = benchmark.protocol(purpose)
    split = "validation" if purpose == "reconstruction" else protocol.generation_reference
    count = protocol.reconstruction_images if purpose == "reconstruction" else protocol.generation_reference_images
    images = open_dataset(benchmark.dataset(dataset), split, resolution)
    write_reference(images, count, protocol, output, device=options.device())


def evaluate(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    reference: ReferenceFile,
    record: options.RecordFile,
    images: ImagesFile,
    rows: Annotated[Path, typer.Option(help="parquet of per-image values to write")],
    weights: options.Weights = None,
) -> None:
    """Reconstruct a validation set and measure rFID, PSNR, SSIM and LPIPS in one pass."""
    started = time.monotonic()
    from dcae.autoencoders import load
    from dcae.data import open_dataset
    from evaluation import evaluate_reconstruction, fingerprint, save_reconstruction_samples, write_rows

    benchmark = Benchmark.load(benchmark_file)
    cell = ReconstructionCell(dataset, resolution, autoencoder)
    protocol = benchmark.protocol("reconstruction")
    device = options.device()
    entry = benchmark.autoencoder(autoencoder)
    model = load(entry, weights=weights, config=benchmark.config, device=device)
    result = evaluate_reconstruction(
        model,
        open_dataset(benchmark.dataset(dataset), "validation", resolution),
        protocol,
        reference,
        device=device,
        seed=benchmark.seed,
        padding=entry.padding,
    )
    save_reconstruction_samples(result, images)
    write_rows(result, rows)
    Record(
        kind="reconstruction",
        number_class=_number_class(benchmark, autoencoder),
        cell=vars(cell),
        values=result.values,
        protocol={"name": protocol.name, **protocol.decisive()},
        protocol_fingerprint=fingerprint(protocol),
        device=device_description(device),
        provenance=provenance(
            config_digest=digests.reconstruction_digest(benchmark, cell),
            code_digest=code_of("evaluate", benchmark, [dataset], autoencoder),
            inputs=input_hashes(weights, reference),
            seed=benchmark.seed,
            started=started,
        ),
    ).write(record)


def generate(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    denoiser: Annotated[Path, typer.Option(help="folder of a trained diffusion model")],
    reference: ReferenceFile,
    record: options.RecordFile,
    images: ImagesFile,
    latents: options.Latents = None,
    weights: options.Weights = None,
) -> None:
    """Sample with and without classifier-free guidance, decode, and measure FID and CLIP score as a stream."""
    started = time.monotonic()
    from dcae.autoencoders import load
    from dcae.data import open_dataset
    from dcae.diffusion import LatentDataset, load_denoiser
    from evaluation import evaluate_generation, fingerprint, save_generation_samples

    benchmark = Benchmark.load(benchmark_file)
    cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    entry = benchmark.diffusion(diffusion)
    protocol = benchmark.protocol("generation")
    device = options.device()
    on_the_fly = latents_on_the_fly(benchmark, cell, weights, latents)
    identity = latents_identity(benchmark, dataset, resolution, autoencoder, weights)
    trained_on = on_the_fly(device) if on_the_fly else LatentDataset(latents, identity)
    result = evaluate_generation(
        denoiser=load_denoiser(
            denoiser,
            entry=entry,
            device=device,
            latent_channels=trained_on.shape[0],
            latent_size=trained_on.shape[1],
            patch_size=patch_size,
            classes=trained_on.classes,
        ),
        entry=entry,
        noise_schedule=benchmark.recipe(entry.recipe).noise_schedule,
        autoencoder=load(benchmark.autoencoder(autoencoder), weights=weights, config=benchmark.config, device=device),
        latents=trained_on,
        dataset=open_dataset(benchmark.dataset(dataset), protocol.generation_reference, resolution),
        protocol=protocol,
        reference=reference,
        seed=benchmark.seed,
        device=device,
    )
    save_generation_samples(result, images)
    Record(
        kind="generation",
        number_class="reproduced",
        cell=vars(cell),
        values=result.values,
        protocol={
            "name": protocol.name,
            **protocol.decisive(),
            "sampler": entry.sampler,
            "sampling_steps": entry.sampling_steps,
            "guidance_scale": entry.guidance_scale,
        },
        protocol_fingerprint=fingerprint(protocol),
        device=device_description(device),
        provenance=provenance(
            config_digest=digests.generation_digest(benchmark, cell),
            code_digest=code_of("generate", benchmark, [dataset], autoencoder, diffusion),
            inputs=input_hashes(denoiser, latents, weights, reference),
            seed=benchmark.seed,
            started=started,
        ),
    ).write(record)


def profile(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    record: options.RecordFile,
) -> None:
    """Speed, memory, parameters and GMACs of a diffusion model at an autoencoder's latent shape."""
    started = time.monotonic()
    from evaluation import fingerprint, profile_denoiser

    benchmark = Benchmark.load(benchmark_file)
    cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    protocol = benchmark.protocol("efficiency")
    model = benchmark.autoencoder(autoencoder)
    device = options.device()
    values = profile_denoiser(
        benchmark.diffusion(diffusion),
        latent_channels=model.latent_channels,
        latent_size=resolution // model.spatial_compression,
        patch_size=patch_size,
        protocol=protocol,
        device=device,
    )
    Record(
        kind="efficiency",
        number_class="reproduced",
        cell=vars(cell),
        values=values,
        protocol={"name": protocol.name, **protocol.decisive()},
        protocol_fingerprint=fingerprint(protocol),
        device=device_description(device),
        provenance=provenance(
            config_digest=digests.efficiency_digest(benchmark, cell),
            code_digest=code_of("profile", benchmark, diffusion=diffusion),
            inputs={},
            seed=benchmark.seed,
            started=started,
        ),
    ).write(record)
