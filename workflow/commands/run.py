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
    added_alone = bool(with_) and _has_records_alone(benchmark_file)
    targets = _files_of_the_added(benchmark_file, benchmark, only) if added_alone else only or []
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", cores]
    command += [*(["--profile", profile] if profile else []), *(["--dry-run"] if dry_run else [])]
    command += ["--configfile", str(benchmark_file)]
    environment = {**os.environ, **({extended.EXTENDED: str(file)} if with_ else {})}
    commands = [] if added_alone and not targets else [command]
    if added_alone:
        commands += [[sys.executable, "-m", "workflow", each, str(benchmark_file)] for each in PRESENTED]
    status = 0
    for each in commands:
        print(shlex.join(each[2:]), flush=True)
        if each is command or not dry_run:
            status = subprocess.run(each, env=environment, check=False).returncode or status
    if not dry_run:
        for line in failures(benchmark) if status else []:
            print(line, file=sys.stderr)
        print(f"results: {layout.file(benchmark.name, '')}")
    if status:
        raise typer.Exit(status)


def _has_records_alone(benchmark_file: Path) -> bool:
    """Return whether a benchmark has all that was measured, current, and not the weights and latents on the way to it.

    Committed and shared results leave those out, and Snakemake would make them again.
    """
    from workflow.commands.tables import read_results, stale
    from workflow.jobs import Jobs

    jobs = Jobs(str(benchmark_file))
    has_the_way = all(Path(file).is_file() for file in jobs.steps_on_the_way)
    if has_the_way or not all(Path(file).is_file() for file in jobs.measurements):
        return False
    return not stale(jobs.benchmark, read_results(jobs.benchmark, Path(layout.RESULTS)))


def _files_of_the_added(base_file: Path, benchmark: Benchmark, only: list[str] | None) -> list[str]:
    """Return the files that a benchmark is measured in, or those of the parts asked for, which its base has not."""
    from workflow.jobs import Jobs

    jobs = Jobs(str(benchmark.path))
    asked = [file for part in only for file in jobs.parts.get(part, [part])] if only else jobs.measurements
    there = set(Jobs(str(base_file)).measurements)
    return [file for file in asked if file not in there]
