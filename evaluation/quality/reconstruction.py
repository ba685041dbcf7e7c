# SPDX-License-Identifier: Apache-2.0
"""Reconstruction quality in one pass: rFID, PSNR, SSIM and LPIPS (Table 2 of the paper), KID, precision, recall, ....

Inputs and reconstructions are compared as uint8, as in the paper's code. rFID compares the reconstructions with their
own inputs. The metrics are those of ``evaluation.metrics.registry``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcae.autoencoders.tiling import padded
from dcae.benchmark.entries import Protocol
from dcae.benchmark.record import Value
from dcae.data.dataset import ImageDataset
from dcae.files import replacing
from dcae.shards import INDEX, STEPS, open_shards, read_index, write_shards
from evaluation.features.extractor import FeatureSet, feature_sets
from evaluation.features.quantisation import to_network, to_uint8
from evaluation.features.reference import Detections, batches, read_detections, read_reference
from evaluation.metrics.frechet import Reference
from evaluation.metrics.registry import (
    FID,
    IMAGE_METRICS,
    METRICS,
    QualityMetric,
    image_metrics,
    mean_value,
    metrics_of_reconstructions,
    set_metrics,
)
from evaluation.quality.distances import Quality, detection_rows, distances, subset_quality
from evaluation.quality.image_grid import write_grid
from evaluation.quality.latent_diagnostics import LatentDiagnostics, Probe, diagnose, step_of
from evaluation.quality.one_pass import (
    OnePass,
    Table,
    columns,
    joined,
    measure,
    random_numbers,
    reconstruct_images,
    table_identity,
)

# Raise it when results change, and say below what each raise changed.
# 2: torch's global generator, of autoencoders that sample their latents, is seeded by dcae.randomness; the resize of
#    protocol clean-fid is clean-fid's own function.
# 3: the mean PSNR is that of the images that did not come back unchanged; FID∞ from 25,000 images on, with the samples'
#    error; KID by protocol torch-fidelity is unpaired.
# 4: the number of encoder tensors that the third phase changed.
# 5: diagnostics of latents; the values there before are the same.
RESULTS_VERSION = 5

SHARD_SIZE = 512
SCALE_IMAGES = 64  # whose latents give the scale of noise where the autoencoder has none


@dataclass(frozen=True)
class Reconstruction:
    """Values, the values of every image, and a few images to look at.

    Attributes:
        values: rfid, psnr, ssim, lpips, kid, precision, recall, ....
        per_image: psnr, ssim, lpips, face_count, ldm/lpips, ..., float64 [N], in the order of the dataset.
        pairs: input and reconstruction, uint8 [K, 2, 3, R, R].
        excluded: values that were left out, with the reason.
        further: values of the additional protocols, by their names.
        channels: ``mean`` and ``std`` of each latent channel, with ``latents``.
    """

    values: dict[str, Value]
    per_image: dict[str, Tensor]
    pairs: Tensor
    excluded: dict[str, str] = field(default_factory=dict)
    further: dict[str, Quality] = field(default_factory=dict)
    channels: dict[str, list[float]] = field(default_factory=dict)

    @property
    def remarks(self) -> list[str]:
        """Return a line on each mean that leaves out images, since they came back unchanged."""
        return [
            f"{metric.title}: {value.unchanged} of {value.n} images came back unchanged; the mean is that of the others"
            for metric in IMAGE_METRICS
            if (value := self.values.get(metric.name)) and 0 < value.unchanged < value.n
        ]


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
    metrics: Sequence[QualityMetric] = METRICS,
    latents: bool = False,
) -> Reconstruction | None:
    """Measure an autoencoder on the first ``protocol.reconstruction_images`` images of a dataset.

    With a ``state`` folder, features and rows are stored there shard by shard: a killed evaluation resumes, and several
    processes share the work. The last one to finish returns the result, which does not depend on their number.

    Args:
        autoencoder: follows the contract of ``dcae.autoencoders``.
        dataset: validation split at one resolution; if it has fewer images, all of them are used.
        protocol: names feature networks, their weights and the number of images.
        reference: features of the same images, from ``write_reference``.
        batch_size: changes values by float32 rounding only.
        workers: processes that load images.
        device: where everything runs.
        shown: number of pairs of images to return, at most ``batch_size``.
        seed: of autoencoders that sample their latents.
        padding: of images whose sides f does not divide (``dcae.autoencoders.tiling.reconstruct``).
        further: additional protocols, measured in the same pass.
        state: folder of finished shards.
        identity: everything that decides the reconstructions, as JSON; shards of another identity are replaced.
        process, processes: this process computes the shards ``process``, ``process + processes``, ....
        shard_size: images per shard.
        metrics: to compute.
        latents: add ``evaluation.quality.latent_diagnostics``. Their noise is relative to the autoencoder's
            ``latent_scale``, or, without one, to the RMS of the latents of the first images.

    Returns:
        ``None`` while shards of other processes are missing.

    Raises:
        ReferenceError: the reference is missing or does not fit.
        WeightsError: a weight file that a protocol names is missing or has the wrong content.
        ValueError: no images; reconstructions of another shape, or with NaN or infinity.
    """
    count = min(protocol.reconstruction_images, len(dataset))
    if count < 1:
        raise ValueError("there are no images to reconstruct")
    if processes > 1 and state is None:
        raise ValueError("several processes need a state folder to share")
    protocols = [protocol, *further]
    too_small = {
        metric.name: reason for metric in image_metrics(metrics) if (reason := metric.too_small(dataset.resolution))
    }
    metrics = [metric for metric in metrics if metric.name not in too_small]
    real = {each.name: read_reference(reference, dataset, count, each, metrics) for each in protocols}
    detections = {each.name: read_detections(reference, each) for each in protocols}
    one_pass = OnePass(protocols, device, metrics)
    autoencoder = autoencoder.to(device).eval()

    probe = _probe(autoencoder, one_pass, protocol, metrics, dataset, count, seed, padding) if latents else None

    def make(start: int, length: int) -> Table:
        return measure(one_pass, autoencoder, dataset, start, length, batch_size, workers, seed, padding, probe)

    plan = {
        "identity": identity or {},
        "columns": table_identity(protocols, metrics) | (probe.columns if probe else {}),
        STEPS: probe.steps if probe else {},
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
    pairs = torch.empty(0, 2, 3, dataset.resolution, dataset.resolution, dtype=torch.uint8)
    if shown:
        pairs = _first_pairs(autoencoder, dataset, min(shown, count), batch_size, device, seed, padding)
    qualities = {
        each.name: _quality(table, real[each.name], detections[each.name], each, device, metrics) for each in protocols
    }
    main = qualities.pop(protocol.name)
    rows = _per_image(table, detections, protocols, metrics)
    values, excluded, channels = main.values, main.excluded | too_small, {}
    if probe:
        chosen = [
            k for start in range(0, count, shard_size) for k in probe.chosen(start, min(start + shard_size, count))
        ]
        found = _diagnosed(table, real[protocol.name], protocol, chosen, probe.features)
        values, excluded, channels = values | found.quality.values, excluded | found.quality.excluded, found.channels
    return Reconstruction(values, rows, pairs, excluded, qualities, channels)


def _probe(
    autoencoder: nn.Module,
    one_pass: OnePass,
    protocol: Protocol,
    metrics: Sequence[QualityMetric],
    dataset: ImageDataset,
    count: int,
    seed: int,
    padding: str | None,
) -> Probe:
    """Return the probe of an autoencoder's latents on the first ``count`` images of a dataset."""
    scale, shift = getattr(autoencoder, "latent_scale", None), getattr(autoencoder, "latent_shift", None) or 0.0
    if scale is None:
        images = next(batches(dataset, count, min(count, SCALE_IMAGES))).to(one_pass.device)
        with torch.inference_mode(), random_numbers(seed, 0):
            latents = autoencoder.encode(padded(autoencoder, to_network(images), padding)).double()
        scale, shift = float((latents - shift).square().mean().rsqrt()), 0.0
    features = feature_sets(protocol, [FID])[FID.features] if FID in metrics else None
    step = step_of(count)
    return Probe(autoencoder, one_pass.extractor, features, protocol.quantisation, step, scale, shift, seed, padding)


def _diagnosed(
    table: Table, real: dict[str, Reference], protocol: Protocol, chosen: list[int], features: FeatureSet | None
) -> LatentDiagnostics:
    """Return the diagnostics of a whole table.

    Args:
        chosen: numbers of the images that the probe has seen.
        features: that it extracted, if any.
    """
    names, role = columns(protocol), FID.features
    clean = {"psnr": table[names["psnr"]][chosen]}
    if features is None:
        return diagnose(table, clean, None)
    clean["features"] = table[names[role]][chosen]
    kept = real[role].features[chosen] if real[role].moments is None else None
    return diagnose(table, clean, kept, features.weights.random)


def _whole_table(
    make: Callable[[int, int], Table], plan: dict[str, Any], state: Path | None, process: int, processes: int
) -> Table | None:
    """Return the table of all images, or ``None`` while shards of other processes are missing."""
    count, size = plan["count"], plan["shard_size"]
    if state is None:
        return joined([make(start, min(size, count - start)) for start in range(0, count, size)])
    write_shards(state, plan, make, lambda shards: {}, process, processes, _tell)
    if not (state / INDEX).is_file():
        return None
    index = read_index(state, "the images")
    if {key: index.get(key) for key in plan} != json.loads(json.dumps(plan)):
        return None  # an index of another plan, which the other processes' shards will replace
    return joined(open_shards(state, index, list(plan["columns"])))


def _tell(done: int, total: int) -> None:
    print(f"measured {done} of {total} images", flush=True)


def reconstruct_pixels(
    autoencoder: nn.Module,
    images: Tensor,
    padding: str | None = None,
    quantisation: Literal["round", "truncate"] = "round",
) -> Tensor:
    """Reconstruct uint8 images [B, 3, H, W] as uint8; raises the errors of ``reconstruct_images``."""
    return to_uint8(reconstruct_images(autoencoder, images, padding), quantisation)


def _first_pairs(autoencoder, dataset, shown: int, batch_size: int, device, seed: int, padding) -> Tensor:
    """Reconstruct the first images again, with the random numbers that they were measured with."""
    with random_numbers(seed, 0):
        inputs = next(batches(dataset, len(dataset), batch_size)).to(device)
        outputs = reconstruct_pixels(autoencoder, inputs, padding)
    return torch.stack([inputs, outputs], dim=1)[:shown].cpu()


def _quality(
    table: Table,
    real: dict[str, Reference],
    detections: Detections,
    protocol: Protocol,
    device: str | torch.device,
    metrics: Sequence[QualityMetric],
) -> Quality:
    """Compute the values of one protocol from the table, in the order of the metrics; subsets come last."""
    names = columns(protocol, metrics)
    of_sets = distances({role: table[names[role]] for role in real}, real, protocol, True, device, metrics)
    of_sets = of_sets.renamed({metric.name: metric.of_reconstructions().name for metric in set_metrics(metrics)}.get)
    rows = {metric.name: table[names[metric.name]] for metric in image_metrics(metrics)}
    means = {
        metric.name: mean_value(rows[metric.name], metric.unit, metric.is_random(protocol))
        for metric in image_metrics(metrics)
    }
    found = means | of_sets.values
    ordered = {each.name: found[each.name] for each in metrics_of_reconstructions(metrics) if each.name in found}
    subsets = subset_quality(rows, means, detections, protocol)
    return Quality(ordered | subsets.values, of_sets.excluded | subsets.excluded)


def _per_image(
    table: Table,
    detections: dict[str, Detections],
    protocols: Sequence[Protocol],
    metrics: Sequence[QualityMetric],
) -> dict[str, Tensor]:
    """Return the numbers of each image; names of additional protocols' begin with the protocol: ``ldm/lpips``."""
    found = {}
    for number, protocol in enumerate(protocols):
        names = columns(protocol, metrics)
        rows = {metric.name: table[names[metric.name]] for metric in image_metrics(metrics)}
        rows |= detection_rows(detections[protocol.name])
        found |= {f"{protocol.name}/{name}" if number else name: values for name, values in rows.items()}
    return found


def save_reconstruction_samples(result: Reconstruction, path: Path) -> None:
    """Write the pairs as one PNG: inputs in the first row, their reconstructions below."""
    write_grid(result.pairs.transpose(0, 1).numpy(), path)


def write_rows(result: Reconstruction, path: Path) -> None:
    """Write the values of every image as parquet, columns ``image`` (index in the dataset), psnr, ssim, lpips, ....

    Two autoencoders measured on the same images are compared by the differences of these rows
    (``evaluation.metrics.paired``), whose error is far smaller than that of either mean.
    """
    import pyarrow
    import pyarrow.parquet

    named = {name: values.numpy() for name, values in result.per_image.items()}
    table = pyarrow.table({"image": range(len(next(iter(result.per_image.values())))), **named})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
