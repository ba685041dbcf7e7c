# SPDX-License-Identifier: Apache-2.0
"""``dcae run``: a benchmark, or some of its tables, from the checks before it to a summary of what failed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from dcae.benchmark import Benchmark, ConfigError
from workflow import extended, layout
from workflow.commands import options

PRESENTED = ("tables", "figures", "page")


def run(
    benchmark_file: options.BenchmarkFile,
    only: Annotated[list[str] | None, typer.Option(help="table1 ... table5, ablations, figure2a ...")] = None,
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="file of an autoencoder to add; repeatable")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Snakemake's profile, such as slurm")] = None,
    cores: Annotated[str, typer.Option(help="cores to use, or all")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would run")] = False,
) -> None:
    """Check what a benchmark needs, run it with Snakemake, and end with the cells that failed, and why.

    Only what is missing or stale is computed; with --with, that is what the new autoencoder needs. Then current records
    stand even where the weights that they were measured from are gone, as in committed or shared results.
    """
    from workflow.planning.plan import plan
    from workflow.planning.site import Site
    from workflow.preflight import check_inputs
    from workflow.summary import failures

    if not Path("Snakefile").is_file():
        raise ConfigError(f"{Path.cwd()}: no Snakefile here; run this in the checkout of the project")
    file = extended.extend(benchmark_file, with_) if with_ else benchmark_file
    benchmark = Benchmark.load(file)
    site = Path(profile, "site.yaml") if profile else None
    if problems := plan(benchmark, Site.read(site) if site and site.is_file() else Site.here()).problems:
        raise ConfigError("\n  ".join(["these jobs cannot run here:", *problems]))
    if not (dry_run or only):
        check_inputs(benchmark)
    added = _added_alone(benchmark_file, benchmark, only) if with_ else None
    command = [sys.executable, "-m", "snakemake", *(only or [] if added is None else added), "--cores", cores]
    command += [*(["--profile", profile] if profile else []), *(["--dry-run"] if dry_run else [])]
    command += ["--configfile", str(benchmark_file)]
    environment = {**os.environ, **({extended.EXTENDED: str(file)} if with_ else {})}
    commands = [] if added == [] else [command]
    if added is not None and not dry_run:
        commands += [[sys.executable, "-m", "workflow", each, str(benchmark_file)] for each in PRESENTED]
    status = 0
    for each in commands:
        print(shlex.join(each[2:]), flush=True)
        status = subprocess.run(each, env=environment, check=False).returncode or status
    if not dry_run:
        for line in failures(benchmark) if status else []:
            print(line, file=sys.stderr)
        print(f"results: {layout.file(benchmark.name, '')}")
    if status:
        raise typer.Exit(status)


def _added_alone(base_file: Path, benchmark: Benchmark, only: list[str] | None) -> list[str] | None:
    """Return the files that additional autoencoders are measured in, if a benchmark has all others and no way to them.

    Snakemake would make the way again: weights and latents that committed and shared results leave out. ``None`` where
    the way is there as well, or something measured is missing or stale.
    """
    from workflow.commands.tables import read_results, stale
    from workflow.jobs import Jobs

    base = Jobs(str(base_file))
    is_whole = all(Path(file).is_file() for file in base.steps_on_the_way)
    if is_whole or not all(Path(file).is_file() for file in base.measurements):
        return None
    if stale(base.benchmark, read_results(base.benchmark, Path(layout.RESULTS))):
        return None
    with_added = Jobs(str(benchmark.path))
    asked = [file for part in only for file in with_added.parts.get(part, [part])] if only else with_added.measurements
    there = set(base.measurements)
    return [file for file in asked if file not in there]
