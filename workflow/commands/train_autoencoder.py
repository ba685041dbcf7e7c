# SPDX-License-Identifier: Apache-2.0
"""``dcae train autoencoder``: one phase of an autoencoder's recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark
from dcae.training.distributed import join_slurm_step
from workflow import layout
from workflow.commands import options
from workflow.staleness.steps import TRAIN_AUTOENCODER
from workflow.trained import check_trained


def train_autoencoder(
    benchmark_file: options.BenchmarkFile,
    autoencoder: options.AutoencoderName,
    phase: Annotated[str, typer.Option(help="phase of the autoencoder's recipe")],
    output: options.Output,
    state: options.State,
    start: Annotated[Path | None, typer.Option(help="folder of the weights to start from")] = None,
    time_limit: options.TimeLimit = None,
    log_with: options.LogWith = "tensorboard",
    configuration: options.Configuration = None,
) -> None:
    """Train one phase of an autoencoder. The same command resumes a training that was stopped."""
    from dcae.training.autoencoder import train_autoencoder_phase

    join_slurm_step()
    benchmark = Benchmark.load(benchmark_file)
    training = benchmark.training(autoencoder, phase)
    options.device()
    check_trained(start)
    train_autoencoder_phase(
        entry=training.entry,
        recipe=training.recipe,
        phase_name=phase,
        datasets=training.datasets,
        output=output,
        state=state,
        start=start,
        seed=training.seed,
        config_digest=TRAIN_AUTOENCODER.planned(training, configuration),
        time_limit_minutes=time_limit,
        log_with=log_with,
        elsewhere=layout.elsewhere(
            state, benchmark.name, layout.AUTOENCODER_STATE, autoencoder=autoencoder, phase=phase
        ),
    )
