# SPDX-License-Identifier: Apache-2.0
"""Reference features: features of real images, computed once and shared by every cell they belong to.

One safetensors file per dataset, split and resolution holds, for each feature set of the benchmark's protocols,
``<set>/features`` float32 [N, d]; for more than 65,536 images, their ``mean`` and ``scatter`` in float64, and the
features of 10,000 of them. Where protocols name subsets, ``detections/<key>`` float64 [N, 2] is the number of faces, or
pieces of text, in each image, and the share of it that they cover. The metadata identify images and networks, and a
reference that does not fit is refused: a wrong reference is the commonest error in published rFIDs.

Until the file is complete, the features of all images are kept as shards in a folder (``dcae.shards``), from which a
stopped run resumes: of ImageNet's training images 10 GB for each set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dcae.benchmark.entries import Protocol
from dcae.data.dataset import ImageDataset, Sample
from dcae.files import replacing, set_aside
from dcae.shards import Shard, open_shards, read_index, write_shards
from evaluation.features.detectors import Detectors, detections_key
from evaluation.features.extractor import Extractor, distinct, feature_sets
from evaluation.metrics.frechet import BLOCK, Moments, Reference
from evaluation.metrics.registry import METRICS, QualityMetric

# Raise it when results change, and say below what each raise changed.
# 2: the resize of protocol clean-fid is clean-fid's own function (differs by up to 0.01 of 255).
# 3: the metadata are one entry, in one order, with a sha256 of the tensors; the features are the same.
RESULTS_VERSION = 3

# Larger sets keep only mean and scatter: features of ImageNet's training images would take 10 GB. KID, precision and
# recall then use evenly spaced images, as many as ADM's reference batches hold.
MOST_FEATURES = 65_536
KEPT_OF_MORE = 10_000
SHARD_SIZE = 2 * BLOCK  # images, the most that a stopped run repeats
TENSORS = ("features", "mean", "scatter")
DETECTIONS = "detections"
METADATA = "reference"  # a single entry: safetensors writes several in any order, so equal files would differ
CONTENT = "sha256 of the tensors"

Detections = dict[str, Tensor | str]  # by subset: counts and shares [N, 2], or the reason why there are none


class ReferenceError(ValueError):
    """Reference features are missing, damaged, or of other images or another protocol."""


def batches(dataset: ImageDataset, images: int, batch_size: int, workers: int = 0, start: int = 0) -> Iterator[Tensor]:
    """Yield images ``start`` ... ``images - 1`` of a dataset in order, as uint8 batches [B, 3, R, R]."""
    chosen = Subset(dataset, range(start, min(images, len(dataset))))
    pinned = torch.cuda.is_available()
    yield from DataLoader(chosen, batch_size, num_workers=workers, collate_fn=_images_of, pin_memory=pinned)


def _images_of(samples: list[Sample]) -> Tensor:
    return torch.stack([sample.image for sample in samples])


class _Collector:
    """Collects all features of one set, or the moments and some features of a large one."""

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
            self.kept.append(features[first::step].clone())  # a view would keep the whole batch in memory
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
    metrics: Sequence[QualityMetric] = METRICS,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the features of the first ``images`` images of a dataset; the same call resumes a stopped one.

    Args:
        dataset: of one split at one resolution.
        images: number of images; all, if the dataset has fewer.
        protocol: names feature networks, weights, resize and subsets.
        path: safetensors file, written by a rename; until then, finished shards are in a folder beside it.
        batch_size: changes features by float32 rounding only.
        workers: processes that load images.
        device: where the networks run.
        further: additional protocols, whose features come from the same pass over the images.
        metrics: that the features are for.
        progress: called with the number of finished images, and of all images.

    Raises:
        ReferenceError: there are no images.
    """
    protocols = (protocol, *further)
    images = min(images, len(dataset))
    if images < 1:
        raise ReferenceError(f"{path}: a reference needs images, and the dataset has none")
    extractor, detectors = Extractor(protocols, device, metrics), Detectors(protocols)
    metadata = _identity(dataset, images, protocols, metrics)
    metadata |= {f"{DETECTIONS} {key}": reason for key, reason in detectors.left_out.items()}

    def make(start: int, length: int) -> Shard:
        parts: dict[str, list[Tensor]] = {}
        for batch in batches(dataset, start + length, batch_size, workers, start):
            found = {f"{name}/features": features for name, features in extractor(batch).items()}
            found |= {f"{DETECTIONS}/{key}": rows for key, rows in detectors(batch).items()}
            for name, rows in found.items():
                parts.setdefault(name, []).append(rows)
        return {name: torch.cat(rows) for name, rows in parts.items()}

    state = path.with_suffix(".state")
    plan = {"identity": metadata, "count": images, "shard_size": SHARD_SIZE}
    write_shards(state, plan, make, lambda shards: {"tensors": sorted(shards[0])}, progress=progress)
    tensors = _merged(state, images)
    metadata[CONTENT] = _sha256(tensors)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA: json.dumps(metadata, sort_keys=True)})
    shutil.rmtree(state)


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _metadata(file: Any) -> dict[str, str]:
    """Return what a reference's file says of itself; nothing for a file of an earlier version."""
    return json.loads((file.metadata() or {}).get(METADATA, "{}"))


def _merged(state: Path, images: int) -> dict[str, Tensor]:
    """Return the tensors of a reference from the complete shards of its images."""
    index = read_index(state, "the real images")
    shards = open_shards(state, index, index["tensors"])
    tensors: dict[str, Tensor] = {}
    for name in index["tensors"]:
        if name.startswith(f"{DETECTIONS}/"):
            tensors[name] = torch.cat([shard[name] for shard in shards])
            continue
        collector = _Collector(images)
        for shard in shards:
            for block in shard[name].split(BLOCK):
                collector.add(block)
        features = name.removesuffix("/features")
        tensors |= {f"{features}/{key}": value for key, value in collector.tensors().items()}
    return tensors


def read_reference(
    path: Path,
    dataset: ImageDataset,
    images: int,
    protocol: Protocol,
    metrics: Sequence[QualityMetric] = METRICS,
) -> dict[str, Reference]:
    """Read a file of ``write_reference``: references by role, ``inception`` and those of ``dinov2`` and ``cmmd``.

    Raises:
        ReferenceError: the file is missing, damaged, or was written for other arguments; names each difference.
    """
    images = min(images, len(dataset))
    expected = _identity(dataset, images, [protocol], metrics)
    sets = feature_sets(protocol, metrics)
    try:
        with safe_open(path, "pt") as file:
            found = _metadata(file)
            whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ReferenceError(f"{path}: no such file; write it with `dcae reference`") from None
    except (SafetensorError, ValueError) as error:  # ValueError: text that is no JSON, or no UTF-8
        raise ReferenceError(f"{path} is damaged ({error}); {set_aside(path)}") from error
    if found and found.pop(CONTENT) != _sha256(whole):
        raise ReferenceError(f"{path} is damaged (sha256 differs); {set_aside(path)}")
    differences = [
        f"{key} is {found.get(key)!r}, expected {value!r}" for key, value in expected.items() if found.get(key) != value
    ]
    if differences:
        raise ReferenceError(f"{path} does not fit, write it again with `dcae reference`: {'; '.join(differences)}")
    tensors = {
        role: {key: whole[name] for key in TENSORS if (name := f"{each.name}/{key}") in whole}
        for role, each in sets.items()
    }
    return {role: _reference(images, **each) for role, each in tensors.items()}


def read_detections(path: Path, protocol: Protocol) -> Detections:
    """Read the detections of each subset of a protocol from a file that ``read_reference`` accepts.

    Raises:
        ReferenceError: a detector did not run, since the reference is of another protocol.
    """
    found: Detections = {}
    with safe_open(path, "pt") as file:
        metadata, keys = _metadata(file), set(file.keys())
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


def _identity(
    dataset: ImageDataset, images: int, protocols: Sequence[Protocol], metrics: Sequence[QualityMetric]
) -> dict[str, str]:
    """Return everything that decides reference features, as safetensors metadata."""
    return {
        "dataset": dataset.fingerprint,
        "resolution": str(dataset.resolution),
        "images": str(images),
        **{f"features of {name}": each.fingerprint for name, each in distinct(protocols, metrics).items()},
    }
