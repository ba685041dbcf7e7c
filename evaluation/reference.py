# SPDX-License-Identifier: Apache-2.0
"""Reference features: Inception features of real images, computed once and shared by every cell they belong to.

One safetensors file per data set, split, resolution and protocol: ``features`` float32 [N, 2048], or, for more than
65,536 images, their ``mean`` and ``scatter`` in float64. It carries what it was made of, and a file that was made of
anything else is refused: the wrong reference is the commonest error in published rFIDs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dcae.benchmark.entries import Protocol
from dcae.data import ImageDataset, Sample
from evaluation.features import InceptionFeatures, features_fingerprint
from evaluation.statistics import BLOCK, Moments

# Of larger sets only mean and scatter are kept: features of ImageNet's training images would take 10 GB.
MOST_FEATURES = 65_536


class ReferenceError(ValueError):
    """Reference features that are missing, damaged, or of other images or another protocol."""


def batches(dataset: ImageDataset, images: int, batch_size: int, workers: int = 0) -> Iterator[Tensor]:
    """The first ``images`` images of a data set in order (all, if it has fewer), as uint8 batches [B, 3, R, R]."""
    first = Subset(dataset, range(min(images, len(dataset))))
    yield from DataLoader(first, batch_size=batch_size, num_workers=workers, collate_fn=_images_of)


def _images_of(samples: list[Sample]) -> Tensor:
    return torch.stack([sample.image for sample in samples])


def write_reference(
    dataset: ImageDataset,
    images: int,
    protocol: Protocol,
    path: Path,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> None:
    """Write the features of the first ``images`` images of a data set; half a file is never seen.

    Args:
        dataset: of one split at one resolution.
        images: how many; all, if the data set has fewer.
        protocol: its Inception network, weights and resize.
        path: safetensors file to write.
        batch_size: changes features by float32 rounding only.
        workers: processes that load images.
        device: where the network runs.
    """
    network = InceptionFeatures(protocol, device)
    images = min(images, len(dataset))
    features = (network(batch).cpu() for batch in batches(dataset, images, batch_size, workers))
    tensors = _all_features(features) if images <= MOST_FEATURES else _moments(features)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, temporary, metadata=_identity(dataset, images, protocol))
    os.replace(temporary, path)


def _all_features(batches_of_features: Iterator[Tensor]) -> dict[str, Tensor]:
    return {"features": torch.cat(list(batches_of_features))}


def _moments(batches_of_features: Iterator[Tensor]) -> dict[str, Tensor]:
    """Mean and scatter, in blocks: each block costs an addition of 2048 x 2048 numbers."""
    moments, block = None, []
    for features in batches_of_features:
        block.append(features)
        if sum(map(len, block)) >= BLOCK:
            moments, block = _merged(moments, block), []
    moments = _merged(moments, block) if block else moments
    return {"mean": moments.mean, "scatter": moments.scatter}


def _merged(moments: Moments | None, block: list[Tensor]) -> Moments:
    part = Moments.of(torch.cat(block))
    return part if moments is None else moments.merged(part)


def read_reference(path: Path, dataset: ImageDataset, images: int, protocol: Protocol) -> Tensor | Moments:
    """The features [N, 2048] that ``write_reference`` wrote for the same arguments, or their moments if they are many.

    Raises:
        ReferenceError: naming the file and each field in which it differs from what is asked for.
    """
    expected = _identity(dataset, min(images, len(dataset)), protocol)
    try:
        with safe_open(path, "pt") as file:
            found, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ReferenceError(f"{path}: no such file; write it with `dcae reference`") from None
    except SafetensorError as error:
        raise ReferenceError(f"{path} is damaged ({error}); remove it and write it again") from error
    differences = [
        f"{key} is {found.get(key)!r}, expected {value!r}" for key, value in expected.items() if found.get(key) != value
    ]
    if differences:
        raise ReferenceError(f"{path} does not fit, write it again with `dcae reference`: {'; '.join(differences)}")
    return tensors["features"] if "features" in tensors else Moments(int(found["images"]), **tensors)


def _identity(dataset: ImageDataset, images: int, protocol: Protocol) -> dict[str, str]:
    """Everything that decides reference features, as safetensors metadata."""
    return {
        "dataset": dataset.fingerprint,
        "resolution": str(dataset.resolution),
        "images": str(images),
        "features": features_fingerprint(protocol),
    }
