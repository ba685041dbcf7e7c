# SPDX-License-Identifier: Apache-2.0
"""One digest per job of everything in the configuration that decides its result.

A changed entry makes its own jobs stale and no others. What reaches a job as an input file is not part of its digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcae.benchmark.benchmark import Benchmark, GenerationCell, ReconstructionCell, Training
from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml
from dcae.benchmark.entries import Entry, NetworkWeights, SubsetDetector, digest
from dcae.files import content_hashes

WHERE_IT_LIES = ("path", "layout", "train", "validation", "validation_images", "expected_images")
HOW_IT_IS_TRAINED = ("recipe", "start_from")
HOW_ANY_SIZE_IS_ENCODED = ("tiling", "padding")
HOW_IT_IS_SAMPLED = ("sampler", "ode_solver", "sampling_steps", "guidance_scale", "guided_channels")


def _without(entry: Entry, *fields: str) -> dict[str, Any]:
    return {key: value for key, value in entry.decisive().items() if key not in fields}


def files_of(benchmark: Benchmark, autoencoder: str) -> list[Path]:
    """Files and folders that an autoencoder is made from and that its entry names by their path.

    Those of released weights count where the entry does not pin their sha256; those of a hub are not known here.
    """
    entry = benchmark.autoencoder(autoencoder)
    if entry.kind == "space-to-channel":
        return files_of(benchmark, entry.autoencoder)
    named = list(_texts(getattr(entry, "arguments", {})))
    pretrained = getattr(entry, "pretrained", None)
    if pretrained and not pretrained.sha256:
        named.append(str(Path(pretrained.id) / (pretrained.subfolder or "")))
    return [Path(name) for name in named if os.path.isfile(name) or os.path.isdir(name)]  # any text may stand there


def _texts(value: Any) -> Iterator[str]:
    """Every text in what an entry gives a user's callable."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _contents(benchmark: Benchmark, autoencoder: str) -> list[list[str]]:
    """Of the files that an entry names: a checkpoint that was replaced is another autoencoder."""
    hashes = content_hashes(files_of(benchmark, autoencoder))
    return [sorted(hashes.values())] if hashes else []


def _weight_files(*networks: NetworkWeights | SubsetDetector | None) -> dict[str, str]:
    """What ``config/weights.yaml`` says of the weights that these feature networks have."""
    files = read_yaml(REPOSITORY_CONFIG / "weights.yaml")["files"]
    names = sorted({network.weights for network in networks if network and not network.random})
    return {name: files[name]["sha256"] if name in files else "unknown" for name in names}


def _protocols(benchmark: Benchmark, purpose: str) -> list[Any]:
    protocols = [benchmark.protocol(purpose), *benchmark.further_protocols(purpose)]
    return [[protocol.decisive(), _weight_files(*protocol.networks, *protocol.detectors)] for protocol in protocols]


def training_digest(benchmark: Benchmark, training: Training) -> str:
    """Of one phase: the architecture, the phase, its data sets and the seed; what came before is an input file.

    Nothing counts that leaves the weights as they are: where the images lie (a training knows its images by a
    fingerprint of their own), what is validated on, how often a checkpoint is written, what is computed again in the
    backward pass, and how images that do not fit are encoded, of which a training has none.
    """
    entry = benchmark.autoencoder(training.autoencoder)
    recipe = benchmark.recipe(entry.recipe)
    phase = next(each for each in recipe.phases if each.name == training.phase)
    perceptual = phase.losses.perceptual
    return digest(
        _without(entry, *HOW_IT_IS_TRAINED, *HOW_ANY_SIZE_IS_ENCODED),
        phase.model_dump(mode="json", exclude_none=True, exclude={"checkpoint_every", "gradient_checkpointing"}),
        recipe.datasets,
        recipe.latent_scale_images,
        *(_without(benchmark.dataset(name), *WHERE_IT_LIES) for name in sorted(recipe.datasets)),
        _weight_files(perceptual.lpips if perceptual else None),
        benchmark.seed,
        *_contents(benchmark, training.autoencoder),
    )


def training_data_digest(benchmark: Benchmark, training: Training) -> str:
    """Of the whole entries of a training's data sets; a changed one makes a job look whether it has to train."""
    recipe = benchmark.recipe(benchmark.autoencoder(training.autoencoder).recipe)
    return digest(*(benchmark.dataset(name) for name in sorted(recipe.datasets)))


def autoencoder_digest(benchmark: Benchmark, name: str) -> str:
    """Of how an autoencoder is built and scaled, and of the files that its entry names.

    Its training is an input file, so the recipe is left out.
    """
    entry = benchmark.autoencoder(name)
    below = [autoencoder_digest(benchmark, entry.autoencoder)] if entry.kind == "space-to-channel" else []
    return digest(_without(entry, *HOW_IT_IS_TRAINED), *below, *_contents(benchmark, name))


def reference_digest(benchmark: Benchmark, dataset: str, resolution: int, purpose: str) -> str:
    """Of the features of real images."""
    return digest(benchmark.dataset(dataset), resolution, _protocols(benchmark, purpose))


def reconstruction_digest(benchmark: Benchmark, cell: ReconstructionCell) -> str:
    """Of a reconstruction record; the trained weights and the reference are input files."""
    return digest(
        autoencoder_digest(benchmark, cell.autoencoder),
        benchmark.dataset(cell.dataset),
        cell.resolution,
        _protocols(benchmark, "reconstruction"),
        benchmark.seed,
    )


def latents_digest(benchmark: Benchmark, dataset: str, resolution: int, autoencoder: str) -> str:
    """Of a data set's latents; the trained weights are an input file."""
    return digest(autoencoder_digest(benchmark, autoencoder), benchmark.dataset(dataset), resolution, benchmark.seed)


def captions_digest(benchmark: Benchmark, dataset: str, diffusion: str) -> str:
    """Of a data set's captions as a diffusion model's text encoder embeds them."""
    return digest(benchmark.dataset(dataset), benchmark.diffusion(diffusion).text_encoder.model_dump(mode="json"))


def denoiser_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of the training of a diffusion model on these latents, which a training knows by their content besides.

    Where the images lie does not count: latents that are encoded again come out the same, and nothing is trained again.
    """
    diffusion = benchmark.diffusion(cell.diffusion)
    architecture = _without(diffusion, "recipe", *HOW_IT_IS_SAMPLED)
    recipe = _without(benchmark.recipe(diffusion.recipe), "checkpoint_every", "gradient_checkpointing")
    images = _without(benchmark.dataset(cell.dataset), *WHERE_IT_LIES)
    autoencoder = autoencoder_digest(benchmark, cell.autoencoder)
    return digest(architecture, recipe, autoencoder, images, cell.resolution, cell.patch_size, benchmark.seed)


def generation_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of a generation record; the weights, captions and the reference are input files."""
    latents = latents_digest(benchmark, cell.dataset, cell.resolution, cell.autoencoder)
    protocols = _protocols(benchmark, "generation")
    compared_with = benchmark.dataset(benchmark.evaluation_dataset(cell))
    diffusion = benchmark.diffusion(cell.diffusion)
    schedule = benchmark.recipe(diffusion.recipe).noise_schedule
    noise = schedule.model_dump(mode="json") if schedule else "none"
    images = benchmark.generation_protocols(cell)[0].generation_images
    return digest(diffusion, noise, latents, cell.patch_size, compared_with, protocols, images, benchmark.seed)


def efficiency_digest(benchmark: Benchmark, cell: GenerationCell) -> str:
    """Of an efficiency record, which depends on shapes only; of the data, on the number of their classes."""
    autoencoder = benchmark.autoencoder(cell.autoencoder)
    side = cell.resolution // autoencoder.spatial_compression
    shape = [autoencoder.latent_channels, side, side]
    diffusion = benchmark.diffusion(cell.diffusion)
    architecture = _without(diffusion, "recipe", *HOW_IT_IS_SAMPLED)
    classes_of = [benchmark.dataset(cell.dataset)] if diffusion.conditioning == "class" else []
    return digest(architecture, shape, cell.patch_size, benchmark.protocol("efficiency"), *classes_of)
