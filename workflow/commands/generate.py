# SPDX-License-Identifier: Apache-2.0
"""``dcae generate``: samples of a diffusion model, decoded and measured."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcae.benchmark import Benchmark, Config, ConfigError, GenerationCell, Record, ResolvedGeneration
from dcae.benchmark.entries import MEASURED
from dcae.weights.hub import released_file
from evaluation.provenance import additional_measured, described, device_description, input_hashes
from workflow.commands import options
from workflow.provenance import provenance
from workflow.staleness.cache_identity import captions_identity
from workflow.staleness.configuration import CaptionsCell
from workflow.staleness.steps import GENERATE, TRAIN_DENOISER
from workflow.trained import check_trained, taken_from

if TYPE_CHECKING:
    from evaluation.quality.sample_set import ImageSource


def generate(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    reference: options.ReferenceFile,
    features: Annotated[Path, typer.Option(help="folder that keeps features and progress between attempts")],
    record: options.RecordFile,
    images: options.ImagesFile,
    denoiser: Annotated[
        Path | None, typer.Option(help="folder of a trained diffusion model; none for released weights")
    ] = None,
    weights: options.Weights = None,
    captions: options.Captions = None,
    all_images: Annotated[Path | None, typer.Option(help="folder for every sample as a PNG; default: none")] = None,
    configuration: options.Configuration = None,
) -> None:
    """Sample with and without classifier-free guidance, decode, and measure FID and CLIP score as a stream.

    Resumes a stopped run; several processes share the samples if torchrun or srun starts them.
    """
    started = time.monotonic()
    from dcae.data.loading import open_dataset
    from evaluation.features.fingerprints import fingerprint
    from evaluation.quality.generation import evaluate_generation, real_image_controls, save_generation_samples

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    cell = benchmark.resolve(GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size))
    config_digest = GENERATE.planned(cell, configuration)
    entry = cell.diffusion
    protocol, *further = cell.protocols
    classes = class_names(cell)
    check_trained(weights, denoiser)
    source = image_source(cell, benchmark.config, denoiser, weights, captions, len(classes), device)
    released = (released_file(model) for model in (source.denoiser, source.autoencoder))
    inputs = input_hashes(denoiser, weights, captions, *released, *cell.autoencoder.files)
    real_images = open_dataset(cell.evaluated_on, protocol.generation_reference, resolution)
    protocol_fingerprint, *_ = map(fingerprint, cell.protocols)  # before the work, which a missing file would lose
    result = evaluate_generation(
        source=source,
        class_names=classes,
        dataset=real_images,
        protocol=protocol,
        reference=reference,
        folder=features,
        identity={"config": config_digest, "results_version": GENERATE.version, "inputs": inputs},
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
    values, others = dict(result.values), dict(result.further)
    if protocol.generation_controls:
        real = open_dataset(cell.evaluated_on, protocol.generation_controls, resolution)
        controls = real_image_controls(
            source.autoencoder, real, real_images, reference, [protocol, *further], device=device
        )
        values |= controls.pop(protocol.name).values
        others = {name: replace(each, values=each.values | controls[name].values) for name, each in others.items()}
    sampling = {
        "sampler": entry.sampler,
        "sampling_steps": entry.sampling_steps,
        **({"ode_solver": entry.ode_solver} if entry.sampler == "ode" else {}),
        "guidance_scale": entry.guidance_scale,
        "guided_channels": entry.guided_channels,
        "sampling_precision": protocol.sampling_precision,  # of all protocols: they measure the same samples
    }
    Record(
        kind="generation",
        number_class="reproduced" if denoiser or cell.autoencoder.training else "re-evaluated",
        cell=vars(cell.names),
        values=values,
        protocol=described(protocol) | sampling,
        protocol_fingerprint=protocol_fingerprint,
        dataset_fingerprint=real_images.fingerprint,
        excluded=result.excluded,
        further=additional_measured(further, others, sampling),
        device=device_description(device),
        provenance=provenance(
            GENERATE,
            config_digest=config_digest,
            inputs=inputs | input_hashes(reference),
            seed=cell.seed,
            started=started,
        ),
        prompts=result.prompts,
        remarks=[*taken_from(denoiser, weights), *measured_remarks(cell, source.autoencoder.latent_scale)],
    ).write(record)


def measured_remarks(cell: ResolvedGeneration, scale: float) -> list[str]:
    """Return a line on a latent scale that was measured, as the entry asks."""
    if cell.autoencoder.base.latent_scale != MEASURED:
        return []
    return [f"latent_scale {scale:g} was measured on training images of {cell.dataset.name}"]


def class_names(cell: ResolvedGeneration) -> list[str]:
    """Return the classes that a cell's diffusion model is conditioned on; none without class conditioning."""
    from dcae.data.loading import open_dataset

    if cell.diffusion.conditioning != "class":
        return []
    return open_dataset(cell.dataset, "train", cell.resolution).classes


def image_source(
    cell: ResolvedGeneration,
    config: Config,
    denoiser: Path | None,
    weights: Path | None,
    captions: Path | None,
    classes: int,
    device: str,
) -> ImageSource:
    """Load the diffusion model and the autoencoder of a cell on a device: trained here, or released.

    Raises:
        ConfigError: a trained diffusion model is given for an entry with released weights, or none for another, or it
            was trained by another configuration than the benchmark's; or captions are missing or not wanted.
    """
    from dcae.autoencoders.loading import load
    from dcae.data.loading import caption_rows, captions_fingerprint, open_dataset
    from dcae.diffusion.captions.dataset import CaptionDataset
    from dcae.diffusion.latents.scale import measured_scale
    from dcae.diffusion.models.checkpoint import load_denoiser
    from dcae.diffusion.models.released import load_released
    from evaluation.quality.sample_set import ImageSource

    entry, trained_autoencoder = cell.diffusion, cell.autoencoder.entry
    if (denoiser is None) != cell.is_released:
        said = "give --denoiser, from dcae train denoiser" if denoiser is None else "leave --denoiser out"
        raise ConfigError(f"diffusion entry {entry.name}: pretrained is {entry.pretrained}, so {said}")
    if (captions is None) != (entry.conditioning != "caption"):
        said = "give --captions, from dcae captions" if captions is None else "leave --captions out"
        raise ConfigError(f"diffusion entry {entry.name}: conditioning is {entry.conditioning}, so {said}")
    autoencoder = load(trained_autoencoder, weights=weights, config=config, device=device)
    side = cell.resolution // autoencoder.spatial_compression
    shape = {"latent_channels": autoencoder.latent_channels, "latent_size": side, "patch_size": cell.patch_size}
    if denoiser is None:
        model = load_released(entry, **shape, classes=classes).to(device)
    else:
        model = load_denoiser(denoiser, entry=entry, device=device, **shape, classes=classes)
        trained_by = model.metadata.get("identity", {}).get("configuration")
        wanted = TRAIN_DENOISER.configuration(cell)
        if trained_by != wanted:
            raise ConfigError(
                f"{denoiser}: trained by configuration {trained_by}, the benchmark's entries say {wanted}: "
                f"train {entry.name} p{cell.patch_size} on {trained_autoencoder.name} again"
            )
        if autoencoder.latent_scale is None:  # measured, before the denoiser was trained
            autoencoder.latent_scale = model.metadata.get("latent_scale")
    if autoencoder.latent_scale is None:
        autoencoder.latent_scale = measured_scale(autoencoder, open_dataset(cell.dataset, "train", cell.resolution))
    embedded = None
    if captions:
        split = cell.protocols[0].generation_reference
        texts = captions_fingerprint(cell.evaluated_on, split)
        identity = captions_identity(CaptionsCell(cell.evaluated_on, split, entry), texts)
        embedded = CaptionDataset(captions, identity, caption_rows(cell.evaluated_on, split, cell.resolution))
    return ImageSource(
        model.eval(),
        entry,
        cell.recipe.noise_schedule,
        autoencoder,
        (autoencoder.latent_channels, side, side),
        classes,
        cell.seed,
        embedded,
    )
