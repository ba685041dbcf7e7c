# SPDX-License-Identifier: Apache-2.0
"""``dcae reference``: features of real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcae.benchmark import Benchmark
from workflow.commands import options
from workflow.staleness.configuration import reference_cell
from workflow.staleness.steps import REFERENCE


def reference(
    benchmark_file: options.BenchmarkFile,
    purpose: Annotated[
        Literal["reconstruction", "generation"], typer.Option(help="reconstruction or generation reference")
    ],
    dataset: options.DatasetName,
    resolution: options.Resolution,
    output: Annotated[Path, typer.Option("--output", help="file to write")],
    configuration: options.Configuration = None,
) -> None:
    """Compute features of real images once, for every cell of a dataset and resolution; resumes a stopped run."""
    from dcae.data.loading import open_dataset
    from evaluation.features.reference import write_reference

    cell = reference_cell(Benchmark.load(benchmark_file), purpose, dataset, resolution)
    REFERENCE.planned(cell, configuration)
    protocol, *further = cell.protocols
    if purpose == "generation":  # only reconstructions have subsets
        protocol, *further = (each.model_copy(update={"subsets": None}) for each in cell.protocols)
        split, count = protocol.generation_reference, protocol.generation_reference_images
    else:
        split, count = "validation", protocol.reconstruction_images
    images = open_dataset(cell.dataset, split, resolution)
    device = options.device()
    workers = options.readers(device)
    write_reference(
        images,
        count,
        protocol,
        output,
        workers=workers,
        device=device,
        further=further,
        progress=lambda done, total: print(f"features of {dataset}  {done}/{total} images", flush=True),
    )
