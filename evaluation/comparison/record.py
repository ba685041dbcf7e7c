# SPDX-License-Identifier: Apache-2.0
"""The record of one autoencoder on a folder of pictures, for scripts and notebooks: ``evaluation.evaluate``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcae.autoencoders.loading import as_entry, load
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields, Protocol, digest
from dcae.benchmark.record import Record, Value
from dcae.weights.hub import released_file
from evaluation.comparison.measurable import measurable, why_left_out, why_missing
from evaluation.comparison.pictures import Pictures, find_pictures
from evaluation.efficiency.cost import count_parameters
from evaluation.features.fingerprints import fingerprint, weights_identity
from evaluation.features.reference import write_reference
from evaluation.metrics.registry import FID, METRICS, QualityMetric, SetMetric
from evaluation.provenance import described, device_description, input_hashes, provenance
from evaluation.quality.reconstruction import RESULTS_VERSION, Reconstruction, evaluate_reconstruction
from evaluation.tables.controls import CONTROLS

NETWORKS = ("inception", "lpips", "clip", "dinov2", "cmmd")  # fields of a protocol


def evaluate(
    autoencoder: nn.Module | str | Path | Mapping[str, Any] | AutoencoderFields,
    images: str | Path,
    protocol: str | Protocol = "dc-ae",
    resolution: int = 512,
    weights: Path | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 4,
    padding: str | None = None,
    seed: int = 0,
) -> Record:
    """Measure the reconstructions of an autoencoder on every picture in a folder.

    Args:
        autoencoder: a module with ``encode`` (of images [B, 3, H, W] in [-1, 1]) and ``decode``, or anything that
            ``dcae.autoencoders.load`` takes.
        images: folder of pictures, in sub-folders or not, or a zip file.
        protocol: name of a protocol, or a protocol. Metrics whose weights are missing are left out; the record's
            ``excluded`` has the reasons. Diagnostics of latents need rFID, so they are left out with it.
        resolution: side of the ADM crop in pixels.
        weights: folder of a trained autoencoder, for an entry.
        device: default: cuda where there is a GPU.
        batch_size: images at a time.
        padding: of images whose sides ``spatial_compression`` does not divide; default: the entry's.
        seed: of autoencoders that sample their latents.

    Raises:
        ConfigError: the entry or the protocol is wrong.
        DatasetError: no pictures.
        OutputError: the module returns anything else than images.
    """
    started, config = time.monotonic(), Config()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    wanted = config.entry("protocols", protocol) if isinstance(protocol, str) else protocol
    if wanted.kind != "quality":
        raise ConfigError(f"protocol: {wanted.name!r} is a protocol of kind {wanted.kind}, expected quality")
    pictures = find_pictures(Path(images), resolution)
    chosen, metrics, left_out = measurable(wanted, METRICS, pictures)
    entry = None if isinstance(autoencoder, nn.Module) else as_entry(autoencoder, config)
    model = load(entry, weights=weights, config=config, device=device) if entry else autoencoder
    name = entry.name if entry else type(autoencoder).__name__
    command = f"evaluation.evaluate({name}, images={str(images)!r}, protocol={wanted.name!r}, resolution={resolution})"
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference.safetensors"
        write_reference(pictures, len(pictures), chosen, reference, device=device, metrics=metrics)
        found = evaluate_reconstruction(
            model, pictures, chosen, reference, batch_size, device=device, shown=0, seed=seed,
            padding=padding or (entry.padding if entry else None), metrics=metrics,
            latents=FID in metrics,
        )  # fmt: skip
    return record_of(
        found, model, name, entry, weights, pictures, wanted, METRICS, device,
        command=command, started=started, seed=seed, remarks=left_out,
    )  # fmt: skip


def record_of(
    found: Reconstruction,
    model: nn.Module,
    name: str,
    entry: AutoencoderFields | None,
    weights: Path | None,
    pictures: Pictures,
    protocol: Protocol,
    metrics: Sequence[QualityMetric],
    device: str | torch.device,
    *,
    command: str,
    started: float,
    seed: int = 0,
    remarks: Sequence[str] = (),
) -> Record:
    """Return the record of an autoencoder on pictures.

    Args:
        found: values of the pictures.
        model: the autoencoder, and its name.
        entry: of the autoencoder, if it has one.
        weights: folder of a trained autoencoder.
        pictures: that it was measured on.
        protocol: with everything that was asked for.
        metrics: that were asked for; those that could not be measured are in ``excluded`` with the reason.
        device: that it was measured on.
        command: that made the record.
        started: ``time.monotonic()`` at the beginning.
        seed: of autoencoders that sample their latents.
        remarks: notes for the reader.
    """
    chosen, *_ = measurable(protocol, metrics, pictures)
    excluded = {
        metric.of_reconstructions().name if isinstance(metric, SetMetric) else metric.name: reason
        for metric in metrics
        if (metric.weights(chosen) or not isinstance(metric, SetMetric))
        and (reason := why_left_out(metric, chosen, pictures))
    }
    # The fingerprint needs the weights of every network that a protocol names.
    missing = [name for name in NETWORKS if (each := getattr(chosen, name)) and why_missing(weights_identity, each)]
    chosen = chosen.model_copy(update=dict.fromkeys(missing))
    trained_here = "reproduced" if weights else "re-evaluated"
    return Record(
        kind="reconstruction",
        number_class="control" if name in CONTROLS else trained_here,
        cell={"dataset": pictures.folder.absolute().name, "resolution": pictures.resolution, "autoencoder": name},
        values=found.values | {"parameters": Value(value=count_parameters(model), n=1)},
        protocol=described(chosen),
        protocol_fingerprint=fingerprint(chosen),
        dataset_fingerprint=pictures.fingerprint,
        excluded=excluded | found.excluded,
        latent_channels=found.channels,
        device=device_description(device),
        provenance=provenance(
            command=command,
            config_digest=digest(*([entry] if entry else [name]), chosen, pictures.resolution, seed),
            results_version=RESULTS_VERSION,
            inputs=input_hashes(weights, released_file(model)),
            seed=seed,
            started=started,
        ),
        remarks=[
            *remarks,
            *(f"Left out: {file}: {reason}" for file, reason in pictures.left_out.items()),
            *found.remarks,
        ],
    )
