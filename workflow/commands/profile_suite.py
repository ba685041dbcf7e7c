# SPDX-License-Identifier: Apache-2.0
"""``dcae profile-suite``: speed and memory of every row of a suite, without weights or data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcae.benchmark import Config, Record
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import EfficiencyProtocol, SuiteEntry, digest
from dcae.benchmark.entries.protocols import Backend
from dcae.training.stopping import Unfinished
from evaluation.provenance import described, device_description
from workflow import layout
from workflow.commands import options
from workflow.provenance import provenance
from workflow.staleness.steps import PROFILE

if TYPE_CHECKING:
    from evaluation.efficiency.profile import Profile
    from evaluation.efficiency.suite import SuiteRow
    from evaluation.efficiency.worker import Worker
    from evaluation.published import Published

SECONDS_TO_START = 120  # a process that has to load torch, and the driver


def profile_suite(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="entry in config/suites, for example paper")],
    output: Annotated[Path, typer.Option(help="folder of the records, tables and figures")],
    protocol: Annotated[str | None, typer.Option(help="entry in config/protocols; default: the suite's")] = None,
    backend: Annotated[Backend | None, typer.Option(help="inference backend; default: the protocol's")] = None,
    rows: Annotated[str, typer.Option(help="pattern of row names, for example 'table3-*uvit-s*'")] = "*",
    device: options.DeviceName = None,
    row_limit: Annotated[float, typer.Option(help="timeout per row, in minutes")] = 5,
    time_limit: options.TimeLimit = None,
    again: Annotated[bool, typer.Option("--again", help="re-measure finished rows to check repeatability")] = False,
) -> None:
    """Measure the rows of a suite that have no record yet, and write its tables and figures.

    A suite needs neither weights nor data. Each row has its record; rows with a record are not measured again, so that
    the same command resumes. A row that fails has a record with the reason: delete it to measure the row again. With
    --again, the records of finished rows keep their values, get the repeats of the new run, and name the values whose
    repeats differ by more than 5 %.

    Raises:
        BackendError: the backend is not installed, or does not support the precision.
        Unfinished: the time limit is over; records, tables and figures hold the rows that are done.
    """
    import torch

    from evaluation.efficiency.suite import record_path, runs_of, suite_rows
    from evaluation.efficiency.worker import Worker
    from evaluation.published import read_published

    chosen, config = device or options.device(), Config()
    entry = config.entry("suites", suite)
    measured_by = _protocol(config, protocol or entry.protocol, backend)
    published = read_published()
    end = math.inf if time_limit is None else time.monotonic() + 60 * time_limit
    found = suite_rows(entry, measured_by, config, published, rows)
    if again:  # least measured first, or a time limit would leave the last rows out for ever
        found = sorted(found, key=lambda row: runs_of(record_path(output, row, measured_by)))
    with Worker() as process:
        threads = torch.get_num_threads()
        description = process.call(_describe, chosen, threads, seconds=SECONDS_TO_START)
        measure = _Rows(entry, measured_by, config, output, chosen, description, threads, 60 * row_limit, end, again)
        done = [measure.row(row, f"[{number}/{len(found)}] {row.name}", process) for number, row in enumerate(found, 1)]
    for path in present_suite(output, published):
        print(path)
    if not all(done):
        raise Unfinished(f"time limit: {sum(done)} of {len(found)} rows are done; the same command goes on")


def _describe(device: str, threads: int) -> dict[str, Any]:
    """Describe the device from the worker process (some GPUs allow one process only)."""
    import torch

    torch.set_num_threads(threads)
    return device_description(device)


def _protocol(config: Config, name: str, backend: Backend | None) -> EfficiencyProtocol:
    protocol = config.entry("protocols", name)
    if protocol.kind != "efficiency":
        raise ConfigError(f"protocol {protocol.name} is of kind {protocol.kind}, expected efficiency")
    if backend not in (None, "eager", "compile") and protocol.measures == "end-to-end":
        raise ConfigError(
            f"protocol {protocol.name} measures whole pipelines, which run eager or compiled: leave out --backend "
            f"{backend}, which measures denoisers and autoencoders"
        )
    changed = {"inference_backend": backend, "name": f"{protocol.name}-{backend}"} if backend else {}
    return protocol.model_copy(update=changed)


@dataclass(frozen=True)
class _Rows:
    """Measurement of rows; ``end``: time by ``time.monotonic()`` after which no row is begun or kept."""

    suite: SuiteEntry
    protocol: EfficiencyProtocol
    config: Config
    output: Path
    device: str
    description: dict[str, Any]
    threads: int
    row_limit: float
    end: float
    again: bool

    def row(self, row: SuiteRow, where: str, process: Worker) -> bool:
        """Write the record of a row unless it is there; return false if there is no time left for it."""
        from evaluation.efficiency.profile import Profile
        from evaluation.efficiency.suite import is_done, record_path, with_another_run

        started = time.monotonic()
        path = record_path(self.output, row, self.protocol)
        done = is_done(path, self._record(row, Profile(), started))
        if done and not self.again:
            print(f"{where}: there already", flush=True)
            return True
        profile = self._measured(row, process)
        if profile is None:
            print(f"{where}: no time left", flush=True)
            return False
        record = with_another_run(Record.read(path), profile) if done else self._record(row, profile, started)
        record.write(path)
        print(f"{where}: {time.monotonic() - started:.0f} s", flush=True)
        for each in (*(f"{name}: {why}" for name, why in profile.excluded.items()), *record.remarks):
            print(f"    {each}", flush=True)
        return True

    def _measured(self, row: SuiteRow, process: Worker) -> Profile | None:
        """Return the profile of a row, or ``None`` if the time limit is over; after a failure, in a fresh process."""
        from evaluation.efficiency.profile import failure
        from evaluation.efficiency.suite import failed_row, measure_row
        from evaluation.efficiency.worker import ProcessEnded

        seconds = min(self.row_limit, self.end - time.monotonic())
        if seconds <= 0:
            return None
        arguments = (self.suite, self.protocol, self.config.folders, row.name, self.device, self.threads)
        try:
            profile = process.call(measure_row, *arguments, seconds=seconds)
        except ProcessEnded as error:
            return None if time.monotonic() >= self.end else failed_row(row, failure(error))
        if profile.failed:
            process.end()
        return profile

    def _record(self, row: SuiteRow, profile: Profile, started: float) -> Record:
        from evaluation.efficiency.suite import described as described_cell
        from evaluation.features.fingerprints import fingerprint

        config_digest = digest(*row.entries, self.protocol)
        return Record(
            kind="efficiency",
            number_class="reproduced",
            cell=described_cell(row.cell),
            **vars(profile),
            protocol=described(self.protocol),
            protocol_fingerprint=fingerprint(self.protocol),
            device=self.description,
            provenance=provenance(PROFILE, config_digest=config_digest, inputs={}, seed=0, started=started),
        )


def present_suite(folder: Path, published: Published) -> list[Path]:
    """Write tables and figures of the records in a suite's folder. Return the paths."""
    from evaluation.efficiency.suite import read_cell
    from evaluation.figures.efficiency import draw_suite_figures
    from evaluation.tables.efficiency import build_suite_tables
    from evaluation.tables.formats import write_table
    from evaluation.tables.rows import Result

    def order(result: Result) -> tuple:
        cell = result.cell
        size = cell.spatial_compression, -(cell.patch_size or 0)
        return cell.tables, cell.resolution, cell.diffusion or "", *size, cell.autoencoder

    records = [Record.read(path) for path in sorted((folder / layout.RECORDS).rglob("*.json"))]
    results = sorted((Result(read_cell(record), record) for record in records), key=order)
    written = []
    for name, table in build_suite_tables(results, published).items():
        written += write_table(table, folder / layout.TABLES, name)
    return written + draw_suite_figures(results, published, folder / layout.FIGURES)
