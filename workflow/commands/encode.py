# SPDX-License-Identifier: Apache-2.0
"""``dcae encode``: the latents of a dataset."""

from __future__ import annotations

from dcae.benchmark import Benchmark, ReconstructionCell
from dcae.weights.hub import weights_sha256
from workflow.commands import options
from workflow.staleness.cache_identity import latents_identity
from workflow.staleness.steps import ENCODE
from workflow.trained import check_trained


def encode(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: options.Output,
    weights: options.Weights = None,
    configuration: options.Configuration = None,
) -> None:
    """Encode a dataset's training images once; resumes shard by shard.

    Several processes share the shards, each with its own GPU, if torchrun or srun starts them:
    torchrun --standalone --nproc-per-node 8 --no-python -- dcae encode …
    """
    from dcae.autoencoders.loading import load
    from dcae.autoencoders.tiling import images_at_once
    from dcae.data.loading import open_dataset
    from dcae.diffusion.latents.encode import encode_dataset
    from dcae.diffusion.latents.scale import measured_scale

    process, processes, device = options.share_of_work()
    benchmark = Benchmark.load(benchmark_file)
    cell = benchmark.resolve(ReconstructionCell(dataset, resolution, autoencoder))
    ENCODE.planned(cell, configuration)
    check_trained(weights)
    model = load(cell.autoencoder.entry, weights=weights, config=benchmark.config, device=device)
    images = open_dataset(cell.dataset, "train", resolution)
    if model.latent_scale is None:
        model.latent_scale = measured_scale(model, images)
    released = weights_sha256(model)
    which = f"  process {process + 1}/{processes}" if processes > 1 else ""
    encode_dataset(
        model,
        images,
        folder=output,
        identity=latents_identity(cell, weights, images.fingerprint, released),
        batch_size=images_at_once(resolution, 32),
        workers=options.readers(device),
        seed=cell.seed,
        process=process,
        processes=processes,
        progress=lambda done, images: print(f"{autoencoder}{which}  {done}/{images} images", flush=True),
    )
