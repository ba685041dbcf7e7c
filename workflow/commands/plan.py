# SPDX-License-Identifier: Apache-2.0
"""``dcae plan``: what a benchmark needs, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dcae.benchmark import Benchmark
from workflow.commands import options

if TYPE_CHECKING:
    from workflow.planning.plan import Plan


SHOWN = 5  # of the works that are not counted


def plan(
    benchmark_file: options.BenchmarkFile,
    gpu: Annotated[
        Literal["h100", "h200", "a100"] | None, typer.Option(help="kind of GPU; default: that of the site")
    ] = None,
    site: Annotated[Path | None, typer.Option(help="file of the site; default: slurm/site.yaml, where it is")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with every job")] = False,
    count: Annotated[
        bool, typer.Option(help="count networks that costs.csv lacks, with torch, before planning")
    ] = False,
) -> None:
    """Print jobs, GPU hours, memory, disk, data and weights of a benchmark; exit with 1 where something cannot fit.

    Hours are estimates at the paper's speeds, at those of records of dcae profile, or at a usual share of the GPU's.
    """
    from workflow.planning.costs import Costs
    from workflow.planning.plan import plan as plan_of
    from workflow.planning.site import SITE_FILE, Site

    benchmark = Benchmark.load(benchmark_file)
    if count:
        from workflow.planning.count import count_missing

        count_missing(benchmark, Costs(benchmark.config))
    place = site or (SITE_FILE if SITE_FILE.is_file() else None)
    limits = Site.read(place) if place else Site.here()
    if gpu:
        limits = limits.model_copy(update={"gpu": gpu, "memory_gib": None})
    found = plan_of(benchmark, limits)
    print(json.dumps(found.content(), indent=1) if as_json else _text(found))
    if found.problems:
        raise typer.Exit(1)


def _text(plan: Plan) -> str:
    content, site = plan.content(), plan.site
    limit = f", at most {site.longest_minutes / 60:g} h a job" if site.longest_minutes else ""
    lines = [f"{plan.benchmark.name}: {plan.benchmark.content.description}"]
    lines += [f"{site.gpus_per_node} x {site.gpu} of {site.gpu_memory_gib:g} GiB{limit}", ""]
    lines.append(f"{'':28}{'jobs':>6}{'done':>6}{'GPU hours':>12}{'GPUs':>6}{'GiB a GPU':>11}")
    for part in ("steps", "tables"):
        lines += [_row(name, totals) for name, totals in content[part].items() if totals["jobs"]]
        lines.append("")
    lines.append(_row("total", content["total"]))
    if taken_over := content["total"]["taken_over"]:
        lines.append(f"{taken_over} trainings of equal configuration are taken over from other benchmarks")
    lines += ["", "Disk"]
    lines += [f"  {kind:34}{gigabytes:12,.1f} GB" for kind, gigabytes in content["disk_gb"].items()]
    lines += [f"  {'all':34}{sum(content['disk_gb'].values()):12,.1f} GB", "", "Data and weights"]
    for each in plan.requirements:
        remark = f", {each.remark}" if each.remark else ""
        lines.append(f"  {'there  ' if each.there else 'missing'}  {each.name}: {each.place}{remark}")
    if plan.uncounted:
        lines += ["", f"Not counted ({len(plan.uncounted)}): `dcae plan {plan.benchmark.path} --count` counts"]
        lines += [f"  {each}" for each in plan.uncounted[:SHOWN]]
    if plan.problems:
        lines += ["", "Cannot run here"] + [f"  {each}" for each in plan.problems]
    return "\n".join(lines)


def _row(name: str, totals: dict[str, float]) -> str:
    counts = f"{name:28}{totals['jobs']:6}{totals['done']:6}{totals['gpu_hours']:12,.1f}"
    return f"{counts}{totals['most_gpus']:6}{totals['peak_gpu_memory_gib']:11.1f}"
