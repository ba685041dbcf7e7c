# SPDX-License-Identifier: Apache-2.0
"""``dcae reference``, ``evaluate`` and ``generate``: what writes records of quality."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Record, Value, digests
from dcae.benchmark.entries import Protocol, ProtocolEntry
from dcae.benchmark.record import Measured
from dcae.weights.hub import released_file
from workflow.commands import options
from workflow.image_source import class_names, image_source
from workflow.provenance import device_description, input_hashes, provenance
from workflow.steps import code_of, code_of_generation

if TYPE_CHECKING:
    from evaluation.quality.distances import Quality

ReferenceFile = Annotated[Path, typer.Option("--reference", help="reference features, from dcae reference")]
ImagesFile = Annotated[Path, typer.Option("--images", help="PNG of samples to write")]


def _number_class(benchmark: Benchmark, autoencoder: str) -> str:
    if benchmark.group(autoencoder) == "controls":
        return "control"
    return "reproduced" if benchmark.final_training(autoencoder) else "re-evaluated"


def _described(protocol: ProtocolEntry) -> dict[str, Any]:
    return {"name": protocol.name, **protocol.decisive()}


def _further(
    protocols: list[Protocol], measured: dict[str, Quality], besides: dict[str, Any] | None = None
) -> dict[str, Measured]:
    """What further protocols gave, as records have it; ``besides``: what was done alike for all of them."""
    from evaluation.features.fingerprints import fingerprint

    return {
        each.name: Measured(
            protocol=_described(each) | (besides or {}),
            protocol_fingerprint=fingerprint(each),
            values=measured[each.name].values,
            excluded=measured[each.name].excluded,
        )
        for each in protocols
    }


def reference(
    benchmark_file: options.BenchmarkFile,
    purpose: Annotated[Literal["reconstruction", "generation"], typer.Option(help="which cells it serves")],
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: Annotated[Path, typer.Option("--output", help="file to write")],
) -> None:
    """Features of real images, computed once and shared by every cell of a data set and resolution."""
    from dcae.data.loading import open_dataset
    from evaluation.features.reference import write_reference

    benchmark = Benchmark.load(benchmark_file)
    protocol = benchmark.protocol(purpose)
    split = "validation" if purpose == "reconstruction" else protocol.generation_reference
    count = protocol.reconstruction_images if purpose == "reconstruction" else protocol.generation_reference_images
    images = open_dataset(benchmark.dataset(dataset), split, resolution)
    further = benchmark.further_protocols(purpose)
    if purpose == "generation":  # subsets are of reconstructions
        protocol, *further = (each.model_copy(update={"subsets": None}) for each in (protocol, *further))
    device = options.device()
    workers = options.readers(device)
    write_reference(images, count, protocol, output, workers=workers, device=device, further=further)


def evaluate(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    reference: ReferenceFile,
    record: options.RecordFile,
    images: ImagesFile,
    rows: Annotated[Path, typer.Option(help="parquet of per-image values to write")],
    state: Annotated[Path | None, typer.Option(help="folder for features and rows, kept between attempts")] = None,
    shard: options.Shard = None,
    weights: options.Weights = None,
) -> None:
    """Reconstruct a validation set and measure it by every protocol of the benchmark in one pass.

    With --state, the same command goes on where a killed one stopped, and several processes share the images: those
    that torchrun or srun started, or commands that differ in --shard alone, on one machine or many. The one that ends
    last writes the record.
    """
    started = time.monotonic()
    from dcae.autoencoders.loading import load
    from dcae.autoencoders.tiling import images_at_once
    from dcae.data.loading import open_dataset
    from evaluation.efficiency.cost import count_parameters
    from evaluation.features.fingerprints import fingerprint
    from evaluation.quality.reconstruction import evaluate_reconstruction, save_reconstruction_samples, write_rows

    benchmark = Benchmark.load(benchmark_file)
    cell = ReconstructionCell(dataset, resolution, autoencoder)
    protocol = benchmark.protocol("reconstruction")
    further = benchmark.further_protocols("reconstruction")
    process, processes, device = options.share_of_work(shard)
    entry = benchmark.autoencoder(autoencoder)
    model = load(entry, weights=weights, config=benchmark.config, device=device)
    released = released_file(model)
    config_digest = digests.reconstruction_digest(benchmark, cell)
    validation = open_dataset(benchmark.dataset(dataset), "validation", resolution)
    # Before the work: a file that cannot be read ends the job here, not at its end.
    remarks = validation.remarks(protocol.reconstruction_images)
    result = evaluate_reconstruction(
        model,
        validation,
        protocol,
        reference,
        batch_size=images_at_once(resolution, 16),
        workers=options.readers(device),
        device=device,
        seed=benchmark.seed,
        padding=entry.padding,
        further=further,
        state=state,
        identity={
            "autoencoder": digests.autoencoder_digest(benchmark, autoencoder),
            "weights": sorted(input_hashes(weights, released).values()),
            "code": code_of("measure", benchmark, [dataset], autoencoder),
        },
        process=process,
        processes=processes,
    )
    if result is None:
        print(f"process {process + 1} of {processes} is done; the one that ends last writes {record}")
        return
    save_reconstruction_samples(result, images)
    write_rows(result, rows)
    Record(
        kind="reconstruction",
        number_class=_number_class(benchmark, autoencoder),
        cell=vars(cell),
        values={**result.values, "parameters": Value(value=count_parameters(model), n=1)},
        protocol=_described(protocol),
        protocol_fingerprint=fingerprint(protocol),
        dataset_fingerprint=validation.fingerprint,
        excluded=result.excluded,
        further=_further(further, result.further),
        device=device_description(device),
        provenance=provenance(
            config_digest=config_digest,
            code_digest=code_of("evaluate", benchmark, [dataset], autoencoder),
            inputs=input_hashes(weights, released, reference, *digests.files_of(benchmark, autoencoder)),
            seed=benchmark.seed,
            started=started,
        ),
        remarks=remarks,
    ).write(record)


def generate(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    reference: ReferenceFile,
    features: Annotated[Path, typer.Option(help="folder that keeps the samples' features and what is done so far")],
    record: options.RecordFile,
    images: ImagesFile,
    denoiser: Annotated[
        Path | None, typer.Option(help="folder of a trained diffusion model; none for released weights")
    ] = None,
    weights: options.Weights = None,
    captions: options.Captions = None,
    all_images: Annotated[Path | None, typer.Option(help="folder for every sample as a PNG; default: none")] = None,
) -> None:
    """Sample with and without classifier-free guidance, decode, and measure FID and CLIP score as a stream.

    Goes on where a stopped run was; several processes share the samples if torchrun or srun starts them.
    """
    started = time.monotonic()
    from dcae.data.loading import open_dataset
    from evaluation.features.fingerprints import fingerprint
    from evaluation.quality.generation import evaluate_generation, save_generation_samples

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    entry = benchmark.diffusion(diffusion)
    protocol, *further = benchmark.generation_protocols(cell)
    compared_with = benchmark.evaluation_dataset(cell)
    classes = class_names(benchmark, cell)
    source = image_source(benchmark, cell, denoiser, weights, captions, len(classes), device)
    released = (released_file(model) for model in (source.denoiser, source.autoencoder))
    inputs = input_hashes(denoiser, weights, captions, *released, *digests.files_of(benchmark, autoencoder))
    identity = {
        "config": digests.generation_digest(benchmark, cell),
        "code": code_of_generation(benchmark, cell),
        "inputs": inputs,
    }
    real_images = open_dataset(benchmark.dataset(compared_with), protocol.generation_reference, resolution)
    result = evaluate_generation(
        source=source,
        class_names=classes,
        dataset=real_images,
        protocol=protocol,
        reference=reference,
        folder=features,
        identity=identity,
        batch_size=16 if device == "cpu" else 64,
        device=device,
        all_images=all_images,
        process=process,
        processes=processes,
        progress=lambda setting, done, total: print(f"{setting.replace('_', ' ')}  {done}/{total} samples", flush=True),
        further=further,
    )
    if result is None:
        print(f"process {process + 1}/{processes} has done its share; the last one writes the record", flush=True)
        return
    save_generation_samples(result, images)
    sampling = {
        "sampler": entry.sampler,
        "sampling_steps": entry.sampling_steps,
        **({"ode_solver": entry.ode_solver} if entry.sampler == "ode" else {}),
        "guidance_scale": entry.guidance_scale,
        "guided_channels": entry.guided_channels,
    }
    Record(
        kind="generation",
        number_class="reproduced" if denoiser or benchmark.final_training(autoencoder) else "re-evaluated",
        cell=vars(cell),
        values=result.values,
        protocol=_described(protocol) | sampling,
        protocol_fingerprint=fingerprint(protocol),
        dataset_fingerprint=real_images.fingerprint,
        excluded=result.excluded,
        further=_further(further, result.further, sampling),
        device=device_description(device),
        provenance=provenance(
            config_digest=identity["config"],
            code_digest=identity["code"],
            inputs=inputs | input_hashes(reference),
            seed=benchmark.seed,
            started=started,
        ),
    ).write(record)
