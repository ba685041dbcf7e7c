# SPDX-License-Identifier: Apache-2.0
"""``dcae profile``: speed, memory and size of the diffusion model of one cell."""

from __future__ import annotations

import os
import time

from dcae.benchmark import Benchmark, GenerationCell, Record
from evaluation.provenance import described, device_description
from workflow.commands import options
from workflow.commands.generate import class_names
from workflow.provenance import provenance
from workflow.staleness.steps import PROFILE


def profile(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    patch_size: options.PatchSize,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    record: options.RecordFile,
    device: options.DeviceName = None,
    configuration: options.Configuration = None,
) -> None:
    """Measure speed, memory, parameters and GMACs of a diffusion model at an autoencoder's latent shape."""
    started = time.monotonic()
    # numpy's own threads, of which nothing here has use, would forbid the repeats to fork: each would import torch.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import torch

    from evaluation.efficiency.denoiser import DenoiserShape
    from evaluation.efficiency.profile import MeasurementFailed
    from evaluation.efficiency.repeats import profile_in_processes
    from evaluation.features.fingerprints import fingerprint

    cell = Benchmark.load(benchmark_file).resolve(
        GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
    )
    config_digest = PROFILE.planned(cell, configuration)
    chosen = device or options.device()
    channels = cell.autoencoder.entry.latent_channels
    shape = DenoiserShape(cell.diffusion, channels, cell.latent_size, patch_size, len(class_names(cell)))
    measured = profile_in_processes(shape, cell.efficiency, chosen, options.threads())
    torch.set_num_threads(options.threads())  # as the repeats had, for the record; not before: it starts threads
    if measured.failed:
        raise MeasurementFailed("; ".join(f"{name}: {why}" for name, why in measured.failed.items()))
    Record(
        kind="efficiency",
        number_class="reproduced",
        cell=vars(cell.names),
        **vars(measured),
        protocol=described(cell.efficiency),
        protocol_fingerprint=fingerprint(cell.efficiency),
        device=device_description(chosen),
        provenance=provenance(PROFILE, config_digest=config_digest, inputs={}, seed=cell.seed, started=started),
    ).write(record)
