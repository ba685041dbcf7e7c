# SPDX-License-Identifier: Apache-2.0
"""A data set's latents, encoded once: shards of safetensors, and an ``index.json`` that says what they are.

A folder (module ``shards`` says how it is filled) holds

- ``shard-00000-….safetensors`` …: ``labels`` int64 [n], and not normalised, in float32 [n, c, h, w], ``latents``, or
  ``mean`` and ``std`` where every training step draws anew from the posterior;
- ``index.json``: count, shape, classes, posterior, latent scale and shift, mean and standard deviation of each channel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from dcae.benchmark.config import ConfigError
from dcae.diffusion.latents.encoding import encode_pixels, posterior_of
from dcae.diffusion.latents.posterior import posterior_noise
from dcae.diffusion.models.embeddings import check_labels
from dcae.shards import Shard, latent_names, write_shards

# Raise it when results change, and say below what each raise changed.
RESULTS_VERSION = 1

FORMAT = 2


def _plain(value: Any) -> Any:
    """A latent scale or shift as JSON: a number, or a list with one per channel."""
    return value.flatten().tolist() if isinstance(value, Tensor) else value


def _collate(samples: list) -> tuple[Tensor, Tensor]:
    return torch.stack([sample.image for sample in samples]), torch.tensor([sample.label for sample in samples])


def _encode(autoencoder: nn.Module, batches: DataLoader, start: int, classes: int, seed: int) -> Shard:
    """Latents and labels of some images; ``start`` is the index of the first."""
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


def _statistics(shards: list[Shard]) -> dict[str, Any]:
    """Shape, and each channel's mean and standard deviation over all latents, accumulated in float64.

    Of moments, those of samples: the variance within the posteriors is part of it.
    """
    means = [shard["latents" if "latents" in shard else "mean"] for shard in shards]  # [n, c, h, w]
    over = (0, 2, 3)
    count = sum(each.numel() // each.shape[1] for each in means)
    mean = sum(each.double().sum(dim=over) for each in means) / count
    total = sum((each.double() - mean[:, None, None]).square().sum(dim=over) for each in means)
    total = total + sum(shard["std"].double().square().sum(dim=over) for shard in shards if "std" in shard)
    return {"shape": list(means[0].shape[1:]), "mean": mean.tolist(), "std": (total / count).sqrt().tolist()}


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
    """Encode a data set's images, shard by shard; the same call again goes on with the shards that are missing.

    Latents of another identity in the folder are replaced. Several processes, on one machine or many, fill one folder
    together if each is given its number; they need not know of each other.

    Args:
        autoencoder: with ``encode``, ``latent_scale`` and ``latent_shift``; in evaluation mode, on the device to use.
            ``latent_posterior`` says whether the mode of a posterior is kept, a sample, or its moments.
        dataset: item i has ``image`` uint8 [3, R, R] and ``label``; ``classes`` lists the names.
        folder: made if need be.
        identity: what decides the latents (autoencoder, weights, data set, resolution, ...), as JSON.
        first: encode only the first so many images.
        batch_size: images at a time.
        shard_size: images per shard.
        workers: processes that read images.
        seed: of samples of posteriors; that of image i is drawn from (seed, i).
        process, processes: this process takes the shards ``process``, ``process + processes``, ….
        progress: called with the number of this process's images that are done, and of all of them.

    Raises:
        ConfigError: no ``latent_scale``.
        ValueError: no images, a label that is no class, or latents that are not finite.
    """
    count = len(dataset) if first is None else min(first, len(dataset))
    if autoencoder.latent_scale is None:
        raise ConfigError("the autoencoder has no latent_scale: give one in its entry, or train it (which measures it)")
    if count == 0:
        raise ValueError("there are no images to encode")
    classes = list(dataset.classes)
    plan = {
        "format": FORMAT,
        "identity": identity,
        "count": count,
        "classes": classes,
        "posterior": posterior_of(autoencoder),
        "latent_scale": _plain(autoencoder.latent_scale),
        "latent_shift": _plain(autoencoder.latent_shift) or 0.0,
        "shard_size": shard_size,
        "seed": seed,
    }

    def make(start: int, length: int) -> Shard:
        images = Subset(dataset, range(start, start + length))
        batches = DataLoader(images, batch_size, num_workers=workers, collate_fn=_collate)
        with torch.random.fork_rng():  # code of users may draw from torch's global generator
            torch.manual_seed((seed << 20) + start)
            return _encode(autoencoder, batches, start, len(classes), seed)

    write_shards(Path(folder), plan, make, _statistics, process, processes, progress)
