# SPDX-License-Identifier: Apache-2.0
"""``dcae profile``: speed and memory, of a cell of a benchmark or of every row of a suite."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcae.benchmark import Benchmark, Config, GenerationCell, Record, digests
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import EfficiencyProtocol, SuiteEntry, digest
from dcae.benchmark.entries.protocols import Backend
from dcae.benchmark.sources import code_digest
from dcae.training.stopping import Unfinished
from workflow.commands import options
from workflow.image_source import class_names
from workflow.provenance import device_description, provenance
from workflow.steps import code_of

if TYPE_CHECKING:
    from evaluation.efficiency.profile import Profile
    from evaluation.efficiency.suite import SuiteRow
    from evaluation.efficiency.worker import Worker

SECONDS_TO_START = 120  # a process that has to load torch, and the driver


def profile(
    benchmark_file: Annotated[
        Path | None, typer.Argument(metavar="[BENCHMARK]", help="whose cell is measured; none with --suite")
    ] = None,
    diffusion: Annotated[str | None, typer.Option(help="entry in config/diffusion")] = None,
    patch_size: Annotated[int | None, typer.Option()] = None,
    autoencoder: Annotated[str | None, typer.Option(help="entry in config/autoencoders")] = None,
    dataset: Annotated[str | None, typer.Option(help="entry in config/datasets")] = None,
    resolution: Annotated[int | None, typer.Option(help="pixels per side")] = None,
    record: Annotated[Path | None, typer.Option(help="record to write")] = None,
    suite: Annotated[str | None, typer.Option(help="entry in config/suites, instead of a benchmark")] = None,
    output: Annotated[Path | None, typer.Option(help="folder of a suite's records, tables and figure")] = None,
    protocol: Annotated[str | None, typer.Option(help="entry in config/protocols; by default the suite's")] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="that runs the models of a suite, instead of the protocol's")
    ] = None,
    rows: Annotated[str, typer.Option(help="pattern of the rows of a suite, for example 'table3-*uvit-s*'")] = "*",
    device: Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="by default cuda where there is one")] = None,
    row_limit: Annotated[float, typer.Option(help="minutes after which a row of a suite is given up")] = 5,
    time_limit: Annotated[
        float | None, typer.Option(help="minutes; no row of a suite is begun or kept beyond, exit code 75")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="measure rows that are there once more, to see if they agree")
    ] = False,
) -> None:
    """Speed, memory, parameters and GMACs: of a diffusion model at an autoencoder's latent shape, or of a whole suite.

    A suite needs neither weights nor data. Each row has its record; those that are there are not measured again, so
    that the same command goes on after an interruption. A row that fails has a record with the reason: delete it to
    measure the row again. With --again, rows that are there are measured once more: their records keep their values,
    get the repeats of the new run, and say of which values the repeats differ by more than 5 %.
    """
    chosen = device or options.device()
    of_cell = {
        "BENCHMARK": benchmark_file, "--diffusion": diffusion, "--patch-size": patch_size,
        "--autoencoder": autoencoder, "--dataset": dataset, "--resolution": resolution, "--record": record,
    }  # fmt: skip
    wanted, others = ({"--output": output}, of_cell) if suite else (of_cell, {"--output": output})
    missing = [name for name, value in wanted.items() if value is None]
    excess = [name for name, value in others.items() if value is not None]
    if missing or excess:
        kind = "--suite" if suite else "a cell of a benchmark"
        raise typer.BadParameter(f"{kind} needs {', '.join(wanted)}; missing: {missing}, too much: {excess}")
    if suite:
        limits = Limits(60 * row_limit, None if time_limit is None else 60 * time_limit)
        profile_suite(suite, output, protocol, backend, rows, chosen, limits, again)
    else:
        cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
        profile_cell(Benchmark.load(benchmark_file), cell, record, chosen)


def profile_cell(benchmark: Benchmark, cell: GenerationCell, record: Path, device: str) -> None:
    """Measure the denoiser of one cell, and write its record."""
    started = time.monotonic()
    from evaluation.efficiency.denoiser import DenoiserShape, profile_denoiser
    from evaluation.efficiency.profile import MeasurementFailed
    from evaluation.features.fingerprints import fingerprint

    protocol = benchmark.protocol("efficiency")
    entry = benchmark.diffusion(cell.diffusion)
    model = benchmark.autoencoder(cell.autoencoder)
    latent_size = cell.resolution // model.spatial_compression
    classes = len(class_names(benchmark, cell))
    shape = DenoiserShape(entry, model.latent_channels, latent_size, cell.patch_size, classes)
    measured = profile_denoiser(shape, protocol, device)
    if measured.failed:
        raise MeasurementFailed("; ".join(f"{name}: {why}" for name, why in measured.failed.items()))
    Record(
        kind="efficiency",
        number_class="reproduced",
        cell=vars(cell),
        **vars(measured),
        protocol={"name": protocol.name, **protocol.decisive()},
        protocol_fingerprint=fingerprint(protocol),
        device=device_description(device),
        provenance=provenance(
            config_digest=digests.efficiency_digest(benchmark, cell),
            code_digest=code_of("profile", benchmark, diffusion=cell.diffusion),
            inputs={},
            seed=benchmark.seed,
            started=started,
        ),
    ).write(record)


@dataclass(frozen=True)
class Limits:
    """Seconds that a row of a suite, and all of a command, may take."""

    row: float = 300
    all: float | None = None


def profile_suite(
    name: str,
    output: Path,
    protocol_name: str | None,
    backend: Backend | None,
    only: str,
    device: str,
    limits: Limits = Limits(),
    again: bool = False,
) -> None:
    """Measure the rows of a suite that have no record yet, and write its tables and its figure.

    Raises:
        BackendError: the backend is not installed, or has not got the precision.
        Unfinished: the time limit is over; records, tables and figure are of the rows that are done.
    """
    import torch

    from evaluation.efficiency.suite import record_path, runs_of, suite_rows
    from evaluation.efficiency.worker import Worker
    from evaluation.published import read_published
    from workflow.commands.presenting import present_suite

    config = Config()
    suite = config.entry("suites", name)
    protocol = _protocol(config, protocol_name or suite.protocol, backend)
    published = read_published()
    end = math.inf if limits.all is None else time.monotonic() + limits.all
    rows = suite_rows(suite, protocol, config, published, only)
    if again:  # first what was measured least often, or a time limit would leave the last rows out for ever
        rows = sorted(rows, key=lambda row: runs_of(record_path(output, row, protocol)))
    with Worker() as process:
        threads = torch.get_num_threads()
        description = process.call(_describe, device, threads, seconds=SECONDS_TO_START)
        measure = _Measuring(suite, protocol, config, output, device, description, threads, limits.row, end, again)
        done = [measure.row(row, f"[{number}/{len(rows)}] {row.name}", process) for number, row in enumerate(rows, 1)]
    for path in present_suite(output, published):
        print(path)
    if not all(done):
        raise Unfinished(f"time limit: {sum(done)} of {len(rows)} rows are done; the same command goes on")


def _describe(device: str, threads: int) -> dict[str, Any]:
    """The device as a process with so many threads has it. On a GPU that takes one process at a time, the only one."""
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
class _Measuring:
    """What rows are measured with, and ``end``, the time by ``time.monotonic()`` until which they are."""

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
        """Write the record of a row unless it is there; false if there is no time left for it."""
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
        """The profile of a row, or nothing if the time limit is over; after a failure, in a fresh process."""
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
        from evaluation.efficiency.profile import RESULTS_VERSION
        from evaluation.efficiency.suite import described
        from evaluation.features.fingerprints import fingerprint

        return Record(
            kind="efficiency",
            number_class="reproduced",
            cell=described(row.cell),
            **vars(profile),
            protocol={"name": self.protocol.name, **self.protocol.decisive()},
            protocol_fingerprint=fingerprint(self.protocol),
            device=self.description,
            provenance=provenance(
                config_digest=digest(*row.entries, self.protocol),
                code_digest=code_digest(("evaluation.efficiency.suite",)),
                inputs={},
                seed=0,
                started=started,
            ).model_copy(update={"results_version": RESULTS_VERSION}),
        )
