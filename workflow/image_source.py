# SPDX-License-Identifier: Apache-2.0
"""From a generation cell to what makes its samples: diffusion model, autoencoder and captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dcae.benchmark import Benchmark, ConfigError, GenerationCell, digests
from workflow.identities import captions_identity

if TYPE_CHECKING:
    from evaluation.quality.sample_set import ImageSource


def class_names(benchmark: Benchmark, cell: GenerationCell) -> list[str]:
    """What the diffusion model of a cell tells apart: the classes of its data, or none without conditioning on them."""
    from dcae.data.loading import open_dataset

    if benchmark.diffusion(cell.diffusion).conditioning != "class":
        return []
    return open_dataset(benchmark.dataset(cell.dataset), "train", cell.resolution).classes


def image_source(
    benchmark: Benchmark,
    cell: GenerationCell,
    denoiser: Path | None,
    weights: Path | None,
    captions: Path | None,
    classes: int,
    device: str,
) -> ImageSource:
    """Diffusion model and autoencoder of a cell on a device: trained here, or released.

    Raises:
        ConfigError: a trained diffusion model is given for an entry with released weights, or none for another, or it
            was trained by another configuration than the benchmark's; or captions are missing or not wanted.
    """
    from dcae.autoencoders.loading import load
    from dcae.data.loading import caption_rows, captions_fingerprint
    from dcae.diffusion.captions.dataset import CaptionDataset
    from dcae.diffusion.models.checkpoint import load_denoiser
    from dcae.diffusion.models.released import load_released
    from evaluation.quality.sample_set import ImageSource

    entry = benchmark.diffusion(cell.diffusion)
    if (denoiser is None) != benchmark.is_released(cell.diffusion):
        said = "give --denoiser, from dcae train denoiser" if denoiser is None else "leave --denoiser out"
        raise ConfigError(f"diffusion entry {entry.name}: pretrained is {entry.pretrained}, so {said}")
    if (captions is None) != (entry.conditioning != "caption"):
        said = "give --captions, from dcae captions" if captions is None else "leave --captions out"
        raise ConfigError(f"diffusion entry {entry.name}: conditioning is {entry.conditioning}, so {said}")
    autoencoder = load(benchmark.autoencoder(cell.autoencoder), weights=weights, config=benchmark.config, device=device)
    side = cell.resolution // autoencoder.spatial_compression
    shape = {"latent_channels": autoencoder.latent_channels, "latent_size": side, "patch_size": cell.patch_size}
    if denoiser is None:
        model = load_released(entry, **shape, classes=classes).to(device)
    else:
        model = load_denoiser(denoiser, entry=entry, device=device, **shape, classes=classes)
        trained_by = model.metadata.get("identity", {}).get("configuration")
        wanted = digests.denoiser_digest(benchmark, cell)
        if trained_by != wanted:
            raise ConfigError(
                f"{denoiser}: trained by configuration {trained_by}, the benchmark's entries say {wanted}: "
                f"train {entry.name} p{cell.patch_size} on {cell.autoencoder} again"
            )
    embedded = None
    if captions:
        split = benchmark.protocol("generation").generation_reference
        compared_with = benchmark.evaluation_dataset(cell)
        images = benchmark.dataset(compared_with)
        identity = captions_identity(benchmark, compared_with, split, entry.name, captions_fingerprint(images, split))
        embedded = CaptionDataset(captions, identity, caption_rows(images, split, cell.resolution))
    return ImageSource(
        model.eval(),
        entry,
        benchmark.recipe(entry.recipe).noise_schedule,
        autoencoder,
        (autoencoder.latent_channels, side, side),
        classes,
        benchmark.seed,
        embedded,
    )
