# SPDX-License-Identifier: Apache-2.0
"""Reference features: features of real images, computed once and shared by every cell they belong to.

One safetensors file per data set, split and resolution holds, for each feature set of the benchmark's protocols,
``<set>/features`` float32 [N, d]; for more than 65,536 images, their ``mean`` and ``scatter`` in float64, and the
features of 10,000 of them. Where protocols name subsets, ``detections/<key>`` float64 [N, 2] says how many faces, or
pieces of text, each image shows, and which share of it they cover. It carries what it was made of, and a file that was
made of anything else is refused: the wrong reference is the commonest error in published rFIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dcae.benchmark.entries import Protocol
from dcae.data.dataset import ImageDataset, Sample
from dcae.files import replacing
from evaluation.features.detectors import Detectors, detections_key
from evaluation.features.extractor import Extractor, distinct, feature_sets
from evaluation.metrics.frechet import BLOCK, Moments

# Raise it when results change, and say below what each raise changed.
RESULTS_VERSION = 1

# Of larger sets only mean and scatter are kept: features of ImageNet's training images would take 10 GB. KID, precision
# and recall are then taken of evenly spaced images, as many as ADM's reference batches hold for that.
MOST_FEATURES = 65_536
KEPT_OF_MORE = 10_000
TENSORS = ("features", "mean", "scatter")
DETECTIONS = "detections"

Detections = dict[str, Tensor | str]  # by subset: counts and shares [N, 2], or why they could not be had


class ReferenceError(ValueError):
    """Reference features that are missing, damaged, or of other images or another protocol."""


@dataclass(frozen=True)
class Reference:
    """Features of real images in one feature set."""

    features: Tensor  # float32 [N, d]; of a large set, those of evenly spaced images
    moments: Moments | None  # of a large set

    @property
    def whole(self) -> Tensor | Moments:
        """What a Fréchet distance is taken to: all features, or the moments of all."""
        return self.features if self.moments is None else self.moments


def batches(dataset: ImageDataset, images: int, batch_size: int, workers: int = 0, start: int = 0) -> Iterator[Tensor]:
    """Images ``start`` … ``images - 1`` of a data set in order (up to its end), as uint8 batches [B, 3, R, R]."""
    chosen = Subset(dataset, range(start, min(images, len(dataset))))
    yield from DataLoader(chosen, batch_size=batch_size, num_workers=workers, collate_fn=_images_of)


def _images_of(samples: list[Sample]) -> Tensor:
    return torch.stack([sample.image for sample in samples])


class _Collector:
    """All features of one set, or the moments and some features of a large one."""

    def __init__(self, images: int):
        self.images = images
        self.large = images > MOST_FEATURES
        self.kept: list[Tensor] = []
        self.block: list[Tensor] = []
        self.moments: Moments | None = None
        self.seen = 0

    def add(self, features: Tensor) -> None:
        step = -(-self.images // KEPT_OF_MORE) if self.large else 1
        first = -self.seen % step
        if first < len(features):
            self.kept.append(features[first::step].clone())  # a part that is no copy keeps the whole batch in memory
        self.seen += len(features)
        self.block.append(features)
        if self.large and sum(map(len, self.block)) >= BLOCK:
            self._merge()  # each block costs an addition of d x d numbers

    def _merge(self) -> None:
        part = Moments.of(torch.cat(self.block))
        self.moments = part if self.moments is None else self.moments.merged(part)
        self.block = []

    def tensors(self) -> dict[str, Tensor]:
        found = {"features": torch.cat(self.kept)}
        if self.large:
            if self.block:
                self._merge()
            found |= {"mean": self.moments.mean, "scatter": self.moments.scatter}
        return found


def write_reference(
    dataset: ImageDataset,
    images: int,
    protocol: Protocol,
    path: Path,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    further: Sequence[Protocol] = (),
) -> None:
    """Write the features of the first ``images`` images of a data set; half a file is never seen.

    Args:
        dataset: of one split at one resolution.
        images: how many; all, if the data set has fewer.
        protocol: its feature networks, weights and resize.
        path: safetensors file to write.
        batch_size: changes features by float32 rounding only.
        workers: processes that load images.
        device: where the networks run.
        further: more protocols, whose features come from the same pass over the images.

    Raises:
        ReferenceError: there are no images.
    """
    protocols = (protocol, *further)
    images = min(images, len(dataset))
    if images < 1:
        raise ReferenceError(f"{path}: a reference needs images, and the data set has none")
    extractor = Extractor(protocols, device)
    detectors = Detectors(protocols)
    detections: dict[str, list[Tensor]] = {}
    collectors = {name: _Collector(images) for name in distinct(protocols)}
    for batch in batches(dataset, images, batch_size, workers):
        for name, features in extractor(batch).items():
            collectors[name].add(features)
        for key, rows in detectors(batch).items():
            detections.setdefault(key, []).append(rows)
    tensors = {f"{name}/{key}": value for name, each in collectors.items() for key, value in each.tensors().items()}
    tensors |= {f"{DETECTIONS}/{key}": torch.cat(rows) for key, rows in detections.items()}
    metadata = _identity(dataset, images, protocols)
    metadata |= {f"{DETECTIONS} {key}": reason for key, reason in detectors.left_out.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_reference(path: Path, dataset: ImageDataset, images: int, protocol: Protocol) -> dict[str, Reference]:
    """What ``write_reference`` wrote for the same arguments: ``inception``, and ``dinov2`` and ``cmmd`` if asked for.

    Raises:
        ReferenceError: naming the file and each field in which it differs from what is asked for.
    """
    images = min(images, len(dataset))
    expected = _identity(dataset, images, [protocol])
    sets = feature_sets(protocol)
    try:
        with safe_open(path, "pt") as file:
            found, keys = file.metadata() or {}, set(file.keys())
            tensors = {
                role: {key: file.get_tensor(name) for key in TENSORS if (name := f"{each.name}/{key}") in keys}
                for role, each in sets.items()
            }
    except FileNotFoundError:
        raise ReferenceError(f"{path}: no such file; write it with `dcae reference`") from None
    except SafetensorError as error:
        raise ReferenceError(f"{path} is damaged ({error}); remove it and write it again") from error
    differences = [
        f"{key} is {found.get(key)!r}, expected {value!r}" for key, value in expected.items() if found.get(key) != value
    ]
    if differences:
        raise ReferenceError(f"{path} does not fit, write it again with `dcae reference`: {'; '.join(differences)}")
    return {role: _reference(images, **each) for role, each in tensors.items()}


def read_detections(path: Path, protocol: Protocol) -> Detections:
    """What was found in the images of a reference that ``read_reference`` has read, for each subset of a protocol.

    Raises:
        ReferenceError: nothing was looked for, as the reference is of another protocol.
    """
    found: Detections = {}
    with safe_open(path, "pt") as file:
        metadata, keys = file.metadata() or {}, set(file.keys())
        for name, subset in (protocol.subsets or {}).items():
            key = detections_key(name, subset)
            if f"{DETECTIONS}/{key}" in keys:
                found[name] = file.get_tensor(f"{DETECTIONS}/{key}")
            elif f"{DETECTIONS} {key}" in metadata:
                found[name] = f"{metadata[f'{DETECTIONS} {key}']}; then remove {path} and write it again"
            else:
                raise ReferenceError(f"{path}: {name} was not looked for; write it again with `dcae reference`")
    return found


def _reference(images: int, features: Tensor, mean: Tensor | None = None, scatter: Tensor | None = None) -> Reference:
    return Reference(features, None if mean is None else Moments(images, mean, scatter))


def _identity(dataset: ImageDataset, images: int, protocols: Sequence[Protocol]) -> dict[str, str]:
    """Everything that decides reference features, as safetensors metadata."""
    return {
        "dataset": dataset.fingerprint,
        "resolution": str(dataset.resolution),
        "images": str(images),
        **{f"features of {name}": each.fingerprint for name, each in distinct(protocols).items()},
    }
