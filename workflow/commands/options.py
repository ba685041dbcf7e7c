# SPDX-License-Identifier: Apache-2.0
"""Arguments and options shared by several sub-commands, and the device they run on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcae.training.distributed import join_slurm_step, keep_freed_memory, own_cores
from workflow.extended import in_force

MOST_READERS = 8


def _benchmark_file(given: str) -> Path:
    """Return the file of a benchmark given by its path or its name in config/; in this run, the one that extends it."""
    named = Path("config", f"{given}.yaml")
    return in_force(named if not Path(given).exists() and named.is_file() else Path(given))


BenchmarkFile = Annotated[
    Path,
    typer.Argument(metavar="BENCHMARK", help="config/demo.yaml, or demo for short", parser=_benchmark_file),
]
AutoencoderName = Annotated[str, typer.Option("--autoencoder", help="entry in config/autoencoders")]
DiffusionName = Annotated[str, typer.Option("--diffusion", help="entry in config/diffusion")]
DatasetName = Annotated[str, typer.Option("--dataset", help="entry in config/datasets")]
Resolution = Annotated[int, typer.Option("--resolution", help="pixels per side")]
PatchSize = Annotated[int, typer.Option("--patch-size", help="patch size of the diffusion model, in latent pixels")]
Weights = Annotated[Path | None, typer.Option("--weights", help="folder of a trained autoencoder")]
Latents = Annotated[
    Path | None, typer.Option("--latents", help="folder of latents, from dcae encode; none if encoded on the fly")
]
Captions = Annotated[
    Path | None, typer.Option("--captions", help="folder of captions, from dcae captions, if conditioned on them")
]
Output = Annotated[Path, typer.Option("--output", help="folder to write")]
State = Annotated[Path, typer.Option("--state", help="folder for checkpoints, kept between attempts")]
LogWith = Annotated[
    Literal["tensorboard", "wandb", "none"],
    typer.Option("--log-with", envvar="DCAE_LOG_WITH", help="where training curves are logged"),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", help="wall-clock budget in minutes; checkpoints and exits with 75 before it runs out"),
]
Shard = Annotated[str | None, typer.Option("--shard", help="process shard i of n, as i/n (requires --state)")]
DeviceName = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option("--device", help="default: cuda where there is a GPU")
]
ReferenceFile = Annotated[Path, typer.Option("--reference", help="reference features, from dcae reference")]
ImagesFile = Annotated[Path, typer.Option("--images", help="PNG of samples to write")]
RecordFile = Annotated[Path, typer.Option("--record", help="record to write")]
Configuration = Annotated[
    str | None,
    typer.Option("--configuration", help="digest of the planned configuration; a changed entry is refused"),
]
ResultsFolder = Annotated[Path, typer.Option("--results", help="folder of all results")]


def device() -> str:
    """``cuda`` if there is a usable GPU, otherwise ``cpu``, which is set up: its threads and its memory.

    Within Slurm, Snakemake's OMP_NUM_THREADS follows ``threads`` (1), not the cores that were asked for.
    """
    import torch

    if "SLURM_CPUS_PER_TASK" in os.environ:
        torch.set_num_threads(own_cores())
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    if chosen == "cpu":
        keep_freed_memory()
    print(f"device: {chosen}, CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}", flush=True)
    return chosen


def threads() -> int:
    """Return the number of threads that this job was given, also in a fork of a process with another number."""
    import torch

    given = os.environ.get("OMP_NUM_THREADS", "")
    if "SLURM_CPUS_PER_TASK" in os.environ or not given.isdecimal():
        return torch.get_num_threads()
    return int(given)


def readers(device: str) -> int:
    """How many processes read images for a device; on a CPU the networks need the cores themselves."""
    return min(MOST_READERS, max(own_cores() - 1, 1)) if device.startswith("cuda") else 0


class ShardError(ValueError):
    """``--shard`` that names no share of the work."""


def share_of_work(shard: str | None = None) -> tuple[int, int, str]:
    """Number of this process, how many torchrun or srun started, and the device of this one.

    ``shard``, as ``2/7``, takes the place of torchrun's and srun's numbers.

    Raises:
        ShardError: not a number from 1 to n, and n.
    """
    if shard:
        found = re.fullmatch(r"(\d+)/(\d+)", shard)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ShardError(f"--shard {shard}: expected i/n with i from 1 to n, for example 2/7")
        return int(found[1]) - 1, int(found[2]), device()
    join_slurm_step()
    chosen = device()
    if chosen == "cuda":
        import torch

        chosen = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
        torch.cuda.set_device(chosen)
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), chosen
