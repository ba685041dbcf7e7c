# SPDX-License-Identifier: Apache-2.0
"""``dcae captions``: the captions of a dataset, embedded by a text encoder."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from dcae.benchmark import Benchmark
from workflow.commands import options
from workflow.staleness.cache_identity import captions_identity
from workflow.staleness.configuration import captions_cell
from workflow.staleness.steps import CAPTIONS


def captions(
    benchmark_file: options.BenchmarkFile,
    diffusion: options.DiffusionName,
    dataset: options.DatasetName,
    split: Annotated[Literal["train", "validation"], typer.Option(help="split to embed")],
    output: options.Output,
    configuration: options.Configuration = None,
) -> None:
    """Embed a dataset's captions once, with a diffusion model's text encoder; shared and resumed as dcae encode."""
    from dcae.data.loading import open_captioned
    from dcae.diffusion.captions.encode import encode_captions
    from dcae.diffusion.captions.t5 import T5TextEncoder

    process, processes, device = options.share_of_work()
    cell = captions_cell(Benchmark.load(benchmark_file), dataset, split, diffusion)
    CAPTIONS.planned(cell, configuration)
    images = open_captioned(cell.dataset, split)
    encode_captions(
        T5TextEncoder(cell.diffusion.text_encoder, device),
        images,
        folder=output,
        identity=captions_identity(cell, images.captions_fingerprint),
        process=process,
        processes=processes,
        progress=lambda done, total: print(f"captions of {dataset}  {done}/{total}", flush=True),
    )
