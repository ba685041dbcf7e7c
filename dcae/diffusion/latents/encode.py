# SPDX-License-Identifier: Apache-2.0
"""Encodes a dataset's latents once, into shards of safetensors and an ``index.json`` (see ``dcae.shards``).

- ``shard-00000-….safetensors`` …: ``labels`` int64 [n], and float32 [n, c, h, w], not normalised: ``latents``, or
  ``mean`` and ``std`` where every training step samples the posterior anew;
- ``index.json``: count, shape, classes, posterior, latent scale and shift.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from dcae.benchmark.config import ConfigError
from dcae.diffusion.latents.posterior import encode_pixels, posterior_noise, posterior_of
from dcae.diffusion.models.embeddings import check_labels
from dcae.randomness import seeded
from dcae.shards import Shard, latent_names, write_shards

# Raise it when results change, and say below what each raise changed.
# 2: posterior samples and torch's global generator are seeded by dcae.randomness.
RESULTS_VERSION = 2

FORMAT = 2


def plain(value: Any) -> Any:
    """Return a latent scale or shift as JSON: a number, or a list with one per channel."""
    return value.flatten().tolist() if isinstance(value, Tensor) else value


def _collate(samples: list) -> tuple[Tensor, Tensor]:
    return torch.stack([sample.image for sample in samples]), torch.tensor([sample.label for sample in samples])


def _encode(autoencoder: nn.Module, batches: DataLoader, start: int, classes: int, seed: int) -> Shard:
    """Return latents and labels of images; ``start`` is the index of the first."""
    device = next(autoencoder.parameters(), torch.empty(0)).device
    posterior = posterior_of(autoencoder)
    parts: dict[str, list[Tensor]] = {"labels": []} | {name: [] for name in latent_names(posterior)}
    for images, labels in batches:  # uint8 [B, 3, R, R], int64 [B]
        check_labels(labels, max(classes, 1))
        mean, std = encode_pixels(autoencoder, images.to(device))
        if posterior == "sample":
            noise = posterior_noise(seed, range(start, start + len(mean)), mean.shape[1:])
            mean = torch.addcmul(mean, std, noise.to(device))
        start += len(labels)
        parts["labels"].append(labels)
        for name, value in zip(latent_names(posterior), (mean, std), strict=False):
            parts[name].append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def _shape(shards: list[Shard]) -> dict[str, Any]:
    return {"shape": list(shards[0]["latents" if "latents" in shards[0] else "mean"].shape[1:])}


def encode_dataset(
    autoencoder: nn.Module,
    dataset: Dataset,
    folder: Path | str,
    identity: dict[str, Any],
    first: int | None = None,
    batch_size: int = 32,
    shard_size: int = 1024,
    workers: int = 0,
    seed: int = 0,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode a dataset's images shard by shard; the same call again continues with the missing shards.

    Latents of another identity in the folder are replaced. Several processes, on one machine or many, fill one folder
    together, given their numbers; they need not communicate.

    Args:
        autoencoder: with ``encode``, ``latent_scale`` and ``latent_shift``; in evaluation mode, on the device to use.
            ``latent_posterior`` selects the mode of the posterior, a sample, or its moments.
        dataset: item i has ``image`` uint8 [3, R, R] and ``label``; ``classes`` lists the names.
        folder: created if missing.
        identity: everything that decides the latents (autoencoder, weights, dataset, resolution, ...), as JSON.
        first: encode only this many images.
        batch_size: images at a time.
        shard_size: images per shard.
        workers: processes that read images.
        seed: of posterior samples; that of image i depends only on (seed, i).
        process, processes: this process takes the shards ``process``, ``process + processes``, ….
        progress: called with the number of this process's finished images, and of all its images.

    Raises:
        ConfigError: ``latent_scale`` is unknown.
        ValueError: no images, a label outside the classes, or latents that are not finite.
    """
    count = len(dataset) if first is None else min(first, len(dataset))
    if autoencoder.latent_scale is None:
        raise ConfigError("the autoencoder has no latent_scale: set it in its entry, or train it (which measures it)")
    if count == 0:
        raise ValueError("there are no images to encode")
    classes = list(dataset.classes)
    plan = {
        "format": FORMAT,
        "identity": identity,
        "count": count,
        "classes": classes,
        "posterior": posterior_of(autoencoder),
        "latent_scale": plain(autoencoder.latent_scale),
        "latent_shift": plain(autoencoder.latent_shift) or 0.0,
        "shard_size": shard_size,
        "seed": seed,
    }

    def make(start: int, length: int) -> Shard:
        images = Subset(dataset, range(start, start + length))
        batches = DataLoader(images, batch_size, num_workers=workers, collate_fn=_collate)
        with seeded(seed, "encode", start):  # users' code may draw from torch's global generator
            return _encode(autoencoder, batches, start, len(classes), seed)

    write_shards(Path(folder), plan, make, _shape, process, processes, progress)
