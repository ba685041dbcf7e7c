# SPDX-License-Identifier: Apache-2.0
"""``dcae evaluate``: reconstruction quality of an autoencoder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark, ReconstructionCell, Record, ResolvedAutoencoder, Value
from dcae.weights.hub import released_file
from evaluation.provenance import additional_measured, described, device_description, input_hashes
from workflow import layout
from workflow.commands import options
from workflow.provenance import provenance
from workflow.staleness import configuration as digests
from workflow.staleness.steps import EVALUATE
from workflow.trained import check_trained, taken_from

ENCODER = ("encoder.", "quant_conv.")  # beginnings of the names of its tensors


def evaluate(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    dataset: options.DatasetName,
    resolution: options.Resolution,
    reference: options.ReferenceFile,
    record: options.RecordFile,
    images: options.ImagesFile,
    rows: Annotated[Path, typer.Option(help="parquet of per-image values to write")],
    state: Annotated[Path | None, typer.Option(help="folder for features and rows, kept between attempts")] = None,
    shard: options.Shard = None,
    weights: options.Weights = None,
    configuration: options.Configuration = None,
) -> None:
    """Reconstruct a validation set and measure it by every protocol of the benchmark in one pass.

    With --state, the same command resumes a stopped one, and several processes share the images: those that torchrun or
    srun started, or commands that differ in --shard alone, on one machine or many. The last one writes the record.
    """
    started = time.monotonic()
    from dcae.autoencoders.contract import OutputError
    from dcae.autoencoders.loading import load
    from dcae.autoencoders.tiling import images_at_once
    from dcae.data.loading import open_dataset
    from evaluation.efficiency.cost import count_parameters
    from evaluation.features.fingerprints import fingerprint
    from evaluation.quality.reconstruction import evaluate_reconstruction, save_reconstruction_samples, write_rows

    benchmark = Benchmark.load(benchmark_file)
    cell = benchmark.resolve(ReconstructionCell(dataset, resolution, autoencoder))
    config_digest = EVALUATE.planned(cell, configuration)
    protocol, *further = cell.protocols
    process, processes, device = options.share_of_work(shard)
    entry = cell.autoencoder.entry
    check_trained(weights)
    model = load(entry, weights=weights, config=benchmark.config, device=device)
    released = released_file(model)
    validation = open_dataset(cell.dataset, "validation", resolution)
    # Before the work: a file that cannot be read or is missing ends the job here, not at its end.
    protocol_fingerprint, *_ = map(fingerprint, cell.protocols)
    remarks = [*validation.remarks(protocol.reconstruction_images), *taken_from(weights)]
    try:
        result = evaluate_reconstruction(
            model,
            validation,
            protocol,
            reference,
            batch_size=images_at_once(resolution, 16),
            workers=options.readers(device),
            device=device,
            seed=cell.seed,
            padding=entry.padding,
            further=further,
            state=state,
            identity={
                "autoencoder": digests.autoencoder(cell.autoencoder),
                "weights": sorted(input_hashes(weights, released).values()),
                "results_version": EVALUATE.version,
            },
            process=process,
            processes=processes,
            latents=True,
        )
    except OutputError as error:
        raise OutputError(f"autoencoder {autoencoder}: {error}") from error
    if result is None:
        print(f"process {process + 1} of {processes} is done; the last one writes {record}")
        return
    save_reconstruction_samples(result, images)
    write_rows(result, rows)
    Record(
        kind="reconstruction",
        number_class=number_class(cell.autoencoder),
        cell=vars(cell.names),
        values={
            **result.values,
            "parameters": Value(value=count_parameters(model), n=1),
            **encoder_change(cell.autoencoder, weights),
        },
        protocol=described(protocol),
        protocol_fingerprint=protocol_fingerprint,
        dataset_fingerprint=validation.fingerprint,
        excluded=result.excluded,
        latent_channels=result.channels,
        further=additional_measured(further, result.further),
        device=device_description(device),
        provenance=provenance(
            EVALUATE,
            config_digest=config_digest,
            inputs=input_hashes(weights, released, reference, *cell.autoencoder.files),
            seed=cell.seed,
            started=started,
        ),
        remarks=[*remarks, *(f"{autoencoder}: {each}" for each in result.remarks)],
    ).write(record)


def encoder_change(autoencoder: ResolvedAutoencoder, weights: Path | None) -> dict[str, Value]:
    """Return the number of the encoder's tensors that a last phase on the decoder's head changed.

    Nothing without such a phase, and where the weights of the phase before are not beside these.
    """
    training = autoencoder.training
    if not (weights and training and training.start) or training.settings.trains != "decoder-head":
        return {}
    before = weights.parents[1] / training.start.autoencoder / training.start.phase
    files = [folder / layout.AUTOENCODER_WEIGHTS for folder in (before, weights)]
    if not all(file.is_file() for file in files):
        return {}
    from safetensors.torch import load_file

    old, new = map(load_file, files)
    changed = sum(not new[name].equal(old[name]) for name in new if name.startswith(ENCODER))
    return {"encoder_tensors_changed": Value(value=changed, n=1)}


def number_class(autoencoder: ResolvedAutoencoder) -> str:
    """Return ``control``, ``reproduced`` (trained here) or ``re-evaluated`` (released weights)."""
    if autoencoder.group == "controls":
        return "control"
    return "reproduced" if autoencoder.training else "re-evaluated"
