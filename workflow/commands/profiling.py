# SPDX-License-Identifier: Apache-2.0
"""``dcae profile``: speed and memory, of a cell of a benchmark or of every row of a suite."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcae.benchmark import Benchmark, Config, GenerationCell, Record, digests
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import EfficiencyProtocol, digest
from dcae.benchmark.entries.protocols import Backend
from dcae.benchmark.sources import code_digest
from workflow.commands import options
from workflow.provenance import device_description, provenance
from workflow.steps import MODULES, code_of


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
) -> None:
    """Speed, memory, parameters and GMACs: of a diffusion model at an autoencoder's latent shape, or of a whole suite.

    A suite needs neither weights nor data. Each row has its record; those that are there are not measured again, so
    that the same command goes on after an interruption.
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
        profile_suite(suite, output, protocol, backend, rows, chosen)
    else:
        cell = GenerationCell(dataset, resolution, autoencoder, diffusion, patch_size)
        profile_cell(Benchmark.load(benchmark_file), cell, record, chosen)


def profile_cell(benchmark: Benchmark, cell: GenerationCell, record: Path, device: str) -> None:
    """Measure the denoiser of one cell, and write its record."""
    started = time.monotonic()
    from evaluation import DenoiserShape, fingerprint, profile_denoiser

    protocol = benchmark.protocol("efficiency")
    model = benchmark.autoencoder(cell.autoencoder)
    shape = DenoiserShape(
        benchmark.diffusion(cell.diffusion),
        model.latent_channels,
        cell.resolution // model.spatial_compression,
        cell.patch_size,
    )
    measured = profile_denoiser(shape, protocol, device)
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


def profile_suite(
    name: str, output: Path, protocol_name: str | None, backend: Backend | None, only: str, device: str
) -> None:
    """Measure the rows of a suite that have no record yet, and write its tables and its figure."""
    from evaluation import fingerprint, read_published
    from evaluation.efficiency.suite import is_done, kinds_of, record_path, suite_rows
    from workflow.commands.presenting import present_suite

    config = Config()
    suite = config.entry("suites", name)
    protocol: EfficiencyProtocol = config.entry("protocols", protocol_name or suite.protocol)
    if protocol.kind != "efficiency":
        raise ConfigError(f"protocol {protocol.name} is of kind {protocol.kind}, expected efficiency")
    if backend:
        changed = {"inference_backend": backend, "name": f"{protocol.name}-{backend}"}
        protocol = protocol.model_copy(update=changed)
    published = read_published()
    measured_rows = suite_rows(suite, protocol, config, published, only)
    for number, row in enumerate(measured_rows, start=1):
        started = time.monotonic()
        path = record_path(output, row, protocol)

        def record_of(values: dict, row=row, started=started) -> Record:
            return Record(
                kind="efficiency",
                number_class="reproduced",
                cell=row.cell,
                **values,
                protocol={"name": protocol.name, **protocol.decisive()},
                protocol_fingerprint=fingerprint(protocol),
                device=device_description(device),
                provenance=provenance(
                    config_digest=digest(*row.entries, protocol),
                    code_digest=code_digest(MODULES[row.step], kinds_of(row, config)),
                    inputs={},
                    seed=0,
                    started=started,
                ),
            )

        where = f"[{number}/{len(measured_rows)}] {row.name}"
        if is_done(path, record_of({"values": {}})):
            print(f"{where}: there already", flush=True)
            continue
        record_of(vars(row.measure(protocol, device))).write(path)
        print(f"{where}: {time.monotonic() - started:.0f} s", flush=True)
    for path in present_suite(output, published):
        print(path)
