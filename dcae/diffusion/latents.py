# SPDX-License-Identifier: Apache-2.0
"""A data set's latents, encoded once: shards of safetensors, and an ``index.json`` that says what they are.

A folder holds

- ``identity.json``: what the latents are made by, written first;
- ``shard-00000.safetensors`` ...: ``latents`` float32 [n, c, h, w], not normalised, and ``labels`` int64 [n];
- ``index.json``: count, shape, classes, latent scale and shift, mean and standard deviation of each channel, and the
  sha256 of each shard; written last, so a folder that has it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from dcae.benchmark.record import write_atomically
from dcae.diffusion.embeddings import check_labels
from dcae.diffusion.shards import IDENTITY, INDEX, open_shard, shard_lengths, shard_path
from dcae.files import sha256

FORMAT = 1


def _plain(value: Any) -> Any:
    """A latent scale or shift as JSON: a number, or a list with one per channel."""
    return value.flatten().tolist() if isinstance(value, Tensor) else value


def _start(folder: Path, plan: dict[str, Any]) -> None:
    """Make the folder ready for this plan; latents of another one are removed."""
    content = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    path = folder / IDENTITY
    if not path.is_file() or path.read_text() != content:
        for stale in [folder / INDEX, path, *folder.glob("shard-*.safetensors")]:
            stale.unlink(missing_ok=True)
        write_atomically(path, content)


def _collate(samples: list) -> tuple[Tensor, Tensor]:
    return torch.stack([sample.image for sample in samples]), torch.tensor([sample.label for sample in samples])


@torch.no_grad()
def _encode(autoencoder: nn.Module, batches: DataLoader, classes: int) -> dict[str, Tensor]:
    """Latents and labels of some images."""
    device = next(autoencoder.parameters(), torch.empty(0)).device
    latents, labels = [], []
    for images, batch_labels in batches:  # uint8 [B, 3, R, R], int64 [B]
        check_labels(batch_labels, max(classes, 1))
        latents.append(autoencoder.encode(images.to(device).float() / 127.5 - 1).float().cpu().contiguous())
        labels.append(batch_labels)
        if not torch.isfinite(latents[-1]).all():
            raise ValueError("the autoencoder's latents are not finite; check its weights")
    return {"latents": torch.cat(latents), "labels": torch.cat(labels)}


def _write_shard(path: Path, content: dict[str, Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(content, temporary)
    os.replace(temporary, path)


def _statistics(shards: list[Tensor]) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over all shards [n, c, h, w], accumulated in float64."""
    count = sum(shard.numel() // shard.shape[1] for shard in shards)
    mean = sum(shard.double().sum(dim=(0, 2, 3)) for shard in shards) / count
    variance = sum((shard.double() - mean[:, None, None]).square().sum(dim=(0, 2, 3)) for shard in shards) / count
    return {"mean": mean.tolist(), "std": variance.sqrt().tolist()}


def _write_index(folder: Path, plan: dict[str, Any]) -> None:
    lengths = shard_lengths(plan["count"], plan["shard_size"])
    paths = [shard_path(folder, number) for number in range(len(lengths))]
    shape = open_shard(paths[0], lengths[0])[0].shape[1:]
    shards = [open_shard(path, length, shape)[0] for path, length in zip(paths, lengths, strict=True)]
    hashes = {path.name: sha256(path) for path in paths}
    index = {**plan, "shape": list(shape), **_statistics(shards), "shards": hashes}
    write_atomically(folder / INDEX, json.dumps(index, indent=1) + "\n")


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
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode a data set's images, shard by shard; the same call again goes on with the shards that are missing.

    Latents of another identity in the folder are removed first.

    Args:
        autoencoder: with ``encode``, ``latent_scale`` and ``latent_shift``; in evaluation mode, on the device to use.
        dataset: item i has ``image`` uint8 [3, R, R] and ``label``; ``classes`` lists the names.
        folder: made if need be.
        identity: what decides the latents (autoencoder, weights, data set, resolution, ...), as JSON.
        first: encode only the first so many images.
        batch_size: images at a time.
        shard_size: images per shard.
        workers: processes that read images.
        seed: for autoencoders that sample their posterior; each shard's samples are drawn anew from it.
        progress: called with the number of images that are done, and of all.

    Raises:
        ValueError: no ``latent_scale``, no images, a label that is no class, or latents that are not finite.
    """
    folder, count = Path(folder), len(dataset) if first is None else min(first, len(dataset))
    if autoencoder.latent_scale is None:
        raise ValueError("the autoencoder has no latent_scale: give one in its entry, or train it (which measures it)")
    if count == 0:
        raise ValueError("there are no images to encode")
    plan = {
        "format": FORMAT,
        "identity": identity,
        "count": count,
        "classes": list(dataset.classes),
        "latent_scale": _plain(autoencoder.latent_scale),
        "latent_shift": _plain(autoencoder.latent_shift) or 0.0,
        "shard_size": shard_size,
        "seed": seed,
    }
    _start(folder, plan)
    lengths = shard_lengths(count, shard_size)
    missing = [number for number in range(len(lengths)) if not shard_path(folder, number).is_file()]
    for number in missing:
        start = number * shard_size
        images = Subset(dataset, range(start, start + lengths[number]))
        batches = DataLoader(images, batch_size, num_workers=workers, collate_fn=_collate)
        with torch.random.fork_rng():
            torch.manual_seed((seed << 20) + number)
            content = _encode(autoencoder, batches, len(dataset.classes))
        _write_shard(shard_path(folder, number), content)
        if progress:
            progress(start + lengths[number], count)
    if missing or not (folder / INDEX).is_file():
        _write_index(folder, plan)
