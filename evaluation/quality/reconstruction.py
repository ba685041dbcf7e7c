# SPDX-License-Identifier: Apache-2.0
"""Reconstruction quality in one pass: rFID, PSNR, SSIM and LPIPS (Table 2 of the paper), and the metrics beside them.

Inputs and reconstructions are compared as uint8, as the paper's code does. rFID compares the reconstructions with the
very images they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from dcae.data.dataset import ImageDataset
from dcae.files import replacing
from dcae.randomness import seeded
from dcae.shards import INDEX, open_shards, read_index, write_shards
from evaluation.features.quantisation import to_uint8
from evaluation.features.reference import Detections, Reference, batches, read_detections, read_reference
from evaluation.metrics.jackknife import mean_and_standard_error
from evaluation.quality.distances import Quality, distances
from evaluation.quality.image_grid import write_grid
from evaluation.quality.one_pass import (
    PIXEL_METRICS,
    OnePass,
    Table,
    columns,
    joined,
    measure,
    reconstruct_images,
    table_identity,
)
from evaluation.quality.subsets import detection_rows, subset_quality

# Raise it when results change, and say below what each raise changed.
# 2: torch's global generator, of autoencoders that sample their latents, is seeded by dcae.randomness.
RESULTS_VERSION = 2

UNITS = {"psnr": "dB", "ssim": "", "lpips": ""}
SHARD_SIZE = 512


@dataclass(frozen=True)
class Reconstruction:
    """What was measured, the values of every image, and a few images to look at."""

    values: dict[str, Value]  # rfid, psnr, ssim, lpips, kid, precision, recall, ...
    per_image: dict[
        str, Tensor
    ]  # psnr, ssim, lpips, face_count, ldm/lpips, ...: float64 [N], in the order of the data set
    pairs: Tensor  # uint8 [K, 2, 3, R, R]: input and reconstruction
    excluded: dict[str, str] = field(default_factory=dict)  # values that could not be had: reason
    further: dict[str, Quality] = field(default_factory=dict)  # of the other protocols, by their names


def evaluate_reconstruction(
    autoencoder: nn.Module,
    dataset: ImageDataset,
    protocol: Protocol,
    reference: Path,
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device = "cpu",
    shown: int = 8,
    seed: int = 0,
    padding: str | None = None,
    further: Sequence[Protocol] = (),
    state: Path | None = None,
    identity: dict[str, Any] | None = None,
    process: int = 0,
    processes: int = 1,
    shard_size: int = SHARD_SIZE,
) -> Reconstruction | None:
    """Measure an autoencoder on the first ``protocol.reconstruction_images`` images of a data set.

    With a ``state`` folder, features and rows are kept there shard by shard: a killed evaluation goes on, several
    processes share the work, and whoever ends last has the result, which is bit for bit the same however many they are.

    Args:
        autoencoder: anything that keeps the contract of ``dcae.autoencoders``.
        dataset: its validation split at the resolution of the cell; if it has fewer images, all of them count.
        protocol: feature networks, their weights and the number of images.
        reference: features of the same images, from ``write_reference``.
        batch_size: changes values by float32 rounding only.
        workers: processes that load images.
        device: where everything runs.
        shown: how many pairs of images to return, at most ``batch_size``.
        seed: of autoencoders that sample their latents.
        padding: of images whose sides f does not divide (``dcae.autoencoders.reconstruct``).
        further: protocols that are measured in the same pass.
        state: folder of finished shards.
        identity: what decides the reconstructions, as JSON; shards of another identity are replaced.
        process, processes: this process takes the shards ``process``, ``process + processes``, ….
        shard_size: images per shard.

    Returns:
        ``None`` while shards of other processes are missing.

    Raises:
        ReferenceError: the reference is missing or does not fit.
        WeightsError: a weight file that a protocol names is missing or is another one.
        ValueError: no images; the autoencoder returns another shape, or values that are not finite.
    """
    count = min(protocol.reconstruction_images, len(dataset))
    if count < 1:
        raise ValueError("there are no images to reconstruct")
    if processes > 1 and state is None:
        raise ValueError("several processes need a state folder to share")
    protocols = [protocol, *further]
    real = {each.name: read_reference(reference, dataset, count, each) for each in protocols}
    detections = {each.name: read_detections(reference, each) for each in protocols}
    one_pass = OnePass(protocols, device)
    autoencoder = autoencoder.to(device).eval()

    def make(start: int, length: int) -> Table:
        return measure(one_pass, autoencoder, dataset, start, length, batch_size, workers, seed, padding)

    plan = {
        "identity": identity or {},
        "columns": table_identity(protocols),
        "dataset": dataset.fingerprint,
        "count": count,
        "shard_size": shard_size,
        "batch_size": batch_size,
        "seed": seed,
        "padding": padding,
    }
    table = _whole_table(make, plan, state, process, processes)
    if table is None:
        return None
    pairs = _first_pairs(autoencoder, dataset, min(shown, count), batch_size, device, seed, padding)
    qualities = {each.name: _quality(table, real[each.name], detections[each.name], each, device) for each in protocols}
    main = qualities.pop(protocol.name)
    return Reconstruction(main.values, _per_image(table, detections, protocols), pairs, main.excluded, qualities)


def _whole_table(
    make: Callable[[int, int], Table], plan: dict[str, Any], state: Path | None, process: int, processes: int
) -> Table | None:
    """The table of all images; ``None`` while shards of other processes are missing."""
    count, size = plan["count"], plan["shard_size"]
    if state is None:
        return joined([make(start, min(size, count - start)) for start in range(0, count, size)])
    write_shards(state, plan, make, lambda shards: {}, process, processes, _tell)
    if not (state / INDEX).is_file():
        return None
    index = read_index(state, "the images")
    if {key: index.get(key) for key in plan} != json.loads(json.dumps(plan)):
        return None  # what lies there is of another plan, whose place the other processes' shards are about to take
    return joined(open_shards(state, index, list(plan["columns"])))


def _tell(done: int, total: int) -> None:
    print(f"measured {done} of {total} images", flush=True)


def reconstruct_pixels(autoencoder: nn.Module, images: Tensor, padding: str | None = None) -> Tensor:
    """uint8 images [B, 3, H, W] through an autoencoder and back to the nearest grey levels; errors as of one pass."""
    return to_uint8(reconstruct_images(autoencoder, images, padding))


def _first_pairs(autoencoder, dataset, shown: int, batch_size: int, device, seed: int, padding) -> Tensor:
    """The first images and their reconstructions, with the random numbers that they were measured with."""
    with seeded(seed, "reconstruct", 0):
        inputs = next(batches(dataset, len(dataset), batch_size)).to(device)
        outputs = reconstruct_pixels(autoencoder, inputs, padding)
    return torch.stack([inputs, outputs], dim=1)[:shown].cpu()


def _quality(
    table: Table,
    real: dict[str, Reference],
    detections: Detections,
    protocol: Protocol,
    device: str | torch.device,
) -> Quality:
    names = columns(protocol)
    found = distances({role: table[names[role]] for role in real}, real, protocol, paired=True, device=device)
    found = found.renamed(lambda name: f"r{name}" if name in ("fid", "fid_infinity") else name)
    pixels = {name: _mean(name, table[names[name]], protocol) for name in PIXEL_METRICS}
    first = {name: found.values[name] for name in ("rfid",) if name in found.values}
    rows = {name: table[names[name]] for name in PIXEL_METRICS}
    subsets = subset_quality(rows, pixels, detections, protocol)
    return Quality(first | pixels | found.values | subsets.values, found.excluded | subsets.excluded)


def _mean(name: str, values: Tensor, protocol: Protocol) -> Value:
    mean, error = mean_and_standard_error(values)
    random_features = name == "lpips" and protocol.lpips.random
    return Value(value=mean, n=len(values), standard_error=error, unit=UNITS[name], random_features=random_features)


def _per_image(table: Table, detections: dict[str, Detections], protocols: Sequence[Protocol]) -> dict[str, Tensor]:
    """The numbers of each image: of the main protocol by their names, of others with the protocol before them."""
    found = {}
    for number, protocol in enumerate(protocols):
        rows = {name: table[columns(protocol)[name]] for name in PIXEL_METRICS}
        rows |= detection_rows(detections[protocol.name])
        found |= {f"{protocol.name}/{name}" if number else name: values for name, values in rows.items()}
    return found


def save_reconstruction_samples(result: Reconstruction, path: Path) -> None:
    """Write the pairs to look at as one PNG: inputs in the first row, their reconstructions below."""
    write_grid(result.pairs.transpose(0, 1).numpy(), path)


def write_rows(result: Reconstruction, path: Path) -> None:
    """Write the values of every image as parquet, columns ``image`` (index in the data set), psnr, ssim, lpips and
    what was found in the image, such as face_count and face_share.

    Two autoencoders measured on the same images are compared by the differences of these rows
    (``evaluation.metrics.paired``), whose error is far smaller than that of either mean.
    """
    import pyarrow
    import pyarrow.parquet

    named = {name: values.numpy() for name, values in result.per_image.items()}
    table = pyarrow.table({"image": range(len(result.per_image["psnr"])), **named})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
