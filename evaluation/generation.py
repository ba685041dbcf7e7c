# SPDX-License-Identifier: Apache-2.0
"""Generation quality: FID and CLIP score with and without classifier-free guidance (Tables 1 and 3 of the paper).

Samples are made, decoded and measured as a stream; no image is kept but the few that are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dcae.autoencoders import denormalise
from dcae.benchmark.entries import DiffusionEntry, NoiseSchedule, Protocol
from dcae.benchmark.record import Value
from dcae.data import ImageDataset
from dcae.diffusion import LatentDataset, sample
from evaluation.features import InceptionFeatures
from evaluation.pixels import to_uint8
from evaluation.reference import read_reference
from evaluation.samples import write_grid
from evaluation.statistics import (
    Moments,
    frechet_distance_of_features,
    jackknife_frechet,
    mean_and_standard_error,
)


@dataclass(frozen=True)
class Generation:
    """What was measured, and the first samples of each setting: column k has the same label and noise in every row."""

    values: dict[str, Value]  # fid_without_guidance, fid_with_guidance, clip_score_without_guidance, ...
    samples: dict[str, Tensor]  # without_guidance, with_guidance: uint8 [K, 3, R, R]


@dataclass(frozen=True)
class ImageSource:
    """A diffusion model with its autoencoder: from indices of samples to images.

    ``noise_schedule`` is that of the recipe that the denoiser was trained by.
    """

    denoiser: nn.Module
    entry: DiffusionEntry
    noise_schedule: NoiseSchedule
    autoencoder: nn.Module
    latent_shape: tuple[int, int, int]
    classes: int
    seed: int

    @torch.inference_mode()
    def images(self, indices: Sequence[int], guidance_scale: float) -> tuple[Tensor, Tensor]:
        """Images, uint8 [B, 3, R, R], and labels [B]; each a function of the seed and its index alone.

        Raises:
            ValueError: decoded images that are not finite.
        """
        latents, labels = sample(
            self.denoiser,
            self.entry,
            self.noise_schedule,
            indices,
            self.latent_shape,
            self.seed,
            guidance_scale,
            self.classes,
        )
        images = self.autoencoder.decode(denormalise(self.autoencoder, latents))
        if not images.isfinite().all():
            raise ValueError(f"{self.entry.name}: decoded samples hold NaN or infinity: did its training diverge?")
        return to_uint8(images), labels


def guidance_scales(entry: DiffusionEntry, classes: int) -> dict[str, float]:
    """The settings to measure: without guidance, and with it where there are classes and a scale other than 1."""
    guided = {"with_guidance": entry.guidance_scale} if classes and entry.guidance_scale != 1 else {}
    return {"without_guidance": 1.0, **guided}


def class_captions(classes: Sequence[str]) -> list[str]:
    """A caption for each class, for the CLIP score of class-conditional samples."""
    return [f"a picture of {name.replace('_', ' ').replace('-', ' ')}" for name in classes]


def evaluate_generation(
    denoiser: nn.Module,
    entry: DiffusionEntry,
    noise_schedule: NoiseSchedule,
    autoencoder: nn.Module,
    latents: LatentDataset,
    dataset: ImageDataset,
    protocol: Protocol,
    reference: Path,
    seed: int = 0,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    shown: int = 8,
) -> Generation:
    """Measure ``protocol.generation_images`` samples of a diffusion model.

    Args:
        denoiser: trained on ``latents``.
        entry: its sampler, sampling steps and guidance scale.
        noise_schedule: of its training recipe.
        autoencoder: the one that made ``latents``.
        latents: tells the shape of a latent and the classes.
        dataset: the images behind ``reference``: the split ``protocol.generation_reference`` at the cell's resolution.
        protocol: feature networks, their weights and the numbers of images.
        reference: features of real images, from ``write_reference``.
        seed: of labels and noises; sample i is the same whatever the batch size.
        batch_size: samples at a time.
        device: where everything runs.
        shown: how many samples of each setting to return.

    Raises:
        ReferenceError: the reference is missing or does not fit.
        ValueError: the parts do not go together, or samples are not finite.
    """
    real = read_reference(reference, dataset, protocol.generation_reference_images, protocol)
    source = ImageSource(
        denoiser.to(device).eval(),
        entry,
        noise_schedule,
        autoencoder.to(device).eval(),
        latents.shape,
        latents.classes,
        seed,
    )
    inception = InceptionFeatures(protocol, device)
    clip_score = _load_clip_score(protocol, device) if protocol.clip and latents.classes else None
    captions = class_captions(latents.class_names)
    values: dict[str, Value] = {}
    samples: dict[str, Tensor] = {}
    for setting, guidance_scale in guidance_scales(entry, latents.classes).items():
        features, scores, images = [], [], []
        for start in range(0, protocol.generation_images, batch_size):
            indices = range(start, min(start + batch_size, protocol.generation_images))
            batch, labels = source.images(indices, guidance_scale)
            features.append(inception(batch).cpu())
            if clip_score:
                scores.append(clip_score(batch, [captions[label] for label in labels.tolist()]))
            if start < shown:
                images.append(batch.cpu())
        values[f"fid_{setting}"] = _fid(torch.cat(features), real, protocol)
        if clip_score:
            values[f"clip_score_{setting}"] = _clip_score(torch.cat(scores), protocol)
        samples[setting] = torch.cat(images)[:shown]
    return Generation(values, samples)


def _load_clip_score(protocol: Protocol, device: str | torch.device):
    from evaluation.clip_score import ClipScore  # slow to import, and only protocols with a clip network need it

    return ClipScore(protocol.clip, device)


def _fid(features: Tensor, real: Tensor | Moments, protocol: Protocol) -> Value:
    return Value(
        value=frechet_distance_of_features(features, real),
        n=len(features),
        standard_error=jackknife_frechet(features, real) if len(features) > 2 else None,
        random_features=protocol.inception.random,
    )


def _clip_score(scores: Tensor, protocol: Protocol) -> Value:
    mean, error = mean_and_standard_error(scores)
    return Value(value=mean, n=len(scores), standard_error=error, random_features=protocol.clip.random)


def save_generation_samples(result: Generation, path: Path) -> None:
    """Write the samples to look at as one PNG: without guidance in the first row, with guidance below."""
    write_grid(torch.stack(list(result.samples.values())).numpy(), path)
