# SPDX-License-Identifier: Apache-2.0
"""``dcae data check``: the files of a dataset, before anything is trained on them or measured with them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dcae.benchmark import Config, ConfigError, read_entry
from dcae.benchmark.entries import Entry, ImageFilesEntry
from workflow import layout

if TYPE_CHECKING:
    from dcae.data.checking import Kind, Report, SplitReport

RESOLUTIONS = (256, 512, 1024, 2048)  # of Tables 1 to 5
SHOWN = 3  # examples of each kind


def check(
    entry: Annotated[str, typer.Argument(help="a name in config/datasets, or a file")],
    resolution: Annotated[
        list[int] | None,
        typer.Option(min=1, help="pixels per side, may be given several times; default: 256 to 2048"),
    ] = None,
    split: Annotated[Literal["train", "validation"] | None, typer.Option(help="default: both")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="parquet to write; default: results/datasets/ENTRY.parquet")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="default: as many as there are cores", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Read and decode every image of a dataset: counts, a manifest with sha256, and unusual or unusable images.

    Exit code 1 if an image cannot be used, or if there are not as many as the entry expects.
    """
    from dcae.data.checking import check_dataset, write_manifest

    dataset = _dataset(entry)
    processes = processes or len(os.sched_getaffinity(0))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def progress(name: str, done: int, images: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=images)
            bars.update(tasks[name], completed=done)

        report, rows = check_dataset(
            dataset, resolution or RESOLUTIONS, [split] if split else None, processes, progress
        )
    manifest = manifest or Path(layout.RESULTS) / layout.DATASET_MANIFEST.format(dataset=dataset.name)
    write_manifest(rows, report, manifest)
    if as_json:
        print(json.dumps(asdict(report) | {"passed": report.passed, "manifest": str(manifest)}, indent=1))
    else:
        print("\n".join([*_text(report), f"manifest: {manifest}, fingerprint {report.fingerprint}"]))
    if not report.passed:
        raise typer.Exit(1)


def _dataset(name: str) -> Entry:
    path = Path(name)
    found = read_entry("datasets", path) if path.suffix in (".yaml", ".yml") else Config().entry("datasets", name)
    if not isinstance(found, ImageFilesEntry):
        raise ConfigError(f"dataset {found.name} is of kind {found.kind}: it has no image files to check")
    return found


def _text(report: Report) -> list[str]:
    lines = [f"dataset {report.dataset}"]
    for name, split in report.splits.items():
        lines += ["", *_split_lines(name, split)]
    both = report.in_both_splits
    if len(report.splits) == 2:
        lines += ["", _line("in both splits", both) if both.images else "no file is in both splits"]
    return [*lines, ""]


def _split_lines(name: str, split: SplitReport) -> list[str]:
    counts = list(split.classes.values())
    classes = f", {len(counts)} classes of {min(counts):,} to {max(counts):,} images" if len(counts) > 1 else ""
    lines = [f"{name}: {split.images:,} images, {decimal(split.bytes)}{classes}"]
    if split.expected not in (None, split.images):
        lines.append(f"  EXPECTED {split.expected:,} images: get what is missing, or correct the entry")
    if split.unusable.images:
        lines.append(f"  UNUSABLE {split.unusable.images:,} images")
        lines += [f"    {message}" for message in split.unusable.examples]
        if split.unusable.images > len(split.unusable.examples):
            lines.append("    … (all of them: column `error` of the manifest)")
    lines += [_line(kind, found) for kind, found in split.kinds.items() if found.images]
    for resolution, images in split.smaller.items():
        share = images / split.images
        lines.append(f"  {f'enlarged by a crop at {resolution} px':32}{images:>11,}  {share:.2%}")
    return lines


def _line(kind: str, found: Kind) -> str:
    examples = ", ".join(found.examples[:SHOWN]) + (", …" if found.images > SHOWN else "")
    return f"  {kind:32}{found.images:>11,}  {examples}"
