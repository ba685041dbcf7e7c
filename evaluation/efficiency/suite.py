# SPDX-License-Identifier: Apache-2.0
"""The rows of a suite, from its entry and the paper's tables, and their measurement one by one."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import AutoencoderFields, EfficiencyProtocol, SuiteEntry, digest
from dcae.benchmark.record import Record, Value
from evaluation.efficiency import autoencoder, denoiser
from evaluation.efficiency.autoencoder import profile_autoencoder, profile_phases, shapes_only
from evaluation.efficiency.denoiser import DenoiserShape, profile_denoiser
from evaluation.efficiency.memory import BackendError
from evaluation.efficiency.profile import Profile, failure
from evaluation.efficiency.timing import disagreements, error_of_repeats
from evaluation.published import Published, PublishedValue, read_published
from evaluation.tables.rows import TableCell

Measure = Callable[[EfficiencyProtocol, str], Profile]
TRAINED_LONGER = "†"  # rows of Table 3 that differ from the one above in training alone


@dataclass(frozen=True)
class SuiteRow:
    """One row: its name (that of its record's file), its cell, and how it is measured.

    ``values``: names of the values that are excluded if it fails as a whole; ``entries``: entries and sizes that decide
    the result, for a digest.
    """

    name: str
    cell: TableCell
    values: tuple[str, ...]
    measure: Measure = field(repr=False)
    entries: tuple[Any, ...] = field(repr=False)


def suite_rows(
    suite: SuiteEntry, protocol: EfficiencyProtocol, config: Config, published: Published, only: str = "*"
) -> list[SuiteRow]:
    """Return the rows of a suite that a protocol measures.

    Args:
        suite: its entry.
        protocol: a protocol of denoisers or of all from end to end measures the rows of tables, one of autoencoders
            the other rows.
        config: where entries are looked up.
        published: the paper's tables.
        only: a pattern as of a shell that the names have to match.

    Raises:
        ConfigError: unknown entries, a row of the paper without an entry, or no rows that match.
    """
    if protocol.measures == "autoencoder":
        rows = [*_autoencoder_rows(suite, config), *_phase_rows(suite, config)]
    else:
        values = [value for table in suite.tables for value in published.rows(table)]
        speeds = {value.row for value in published if value.column == "training_images_per_second"}
        rows = [
            _table_row(suite, value, protocol, config)
            for value in values
            if value.row in speeds and TRAINED_LONGER not in f"{value.diffusion}{value.autoencoder}"
        ]
    once: dict[str, SuiteRow] = {}
    for row in rows:  # the paper prints one speed for FFHQ and MJHQ
        same = once.setdefault(row.name, row)
        if digest(*same.entries) != digest(*row.entries):
            raise ConfigError(f"suite {suite.name}: two rows of the name {row.name}: give them entries of their own")
    rows = list(once.values())
    chosen = [row for row in rows if fnmatch(row.name, only)]
    if not chosen:
        known = ", ".join(row.name for row in rows) or f"none for a protocol that measures {protocol.measures}"
        raise ConfigError(f"suite {suite.name}: no rows match {only!r}; there are: {known}")
    return chosen


def _entry_named(suite: SuiteEntry, kind: str, paper_name: str) -> str:
    names = getattr(suite, kind)
    if paper_name not in names:
        raise ConfigError(f"suite {suite.name}: {kind} has no entry for the paper's {paper_name}: add it")
    return names[paper_name]


def _autoencoder(suite: SuiteEntry, name: str, config: Config) -> AutoencoderFields:
    return shapes_only(config.entry("autoencoders", name), suite.architectures.get(name))


# --- rows of the paper's tables ---


def _table_row(suite: SuiteEntry, value: PublishedValue, protocol: EfficiencyProtocol, config: Config) -> SuiteRow:
    names = {kind: _entry_named(suite, kind, getattr(value, one)) for kind, one in _ONE_OF.items()}
    diffusion = config.entry("diffusion", names["diffusion"])
    autoencoder = _autoencoder(suite, names["autoencoders"], config)
    shape = DenoiserShape(
        diffusion,
        autoencoder.latent_channels,
        value.resolution // autoencoder.spatial_compression,
        value.patch_size,
        suite.classes.get(value.dataset, 0),
    )
    cell = TableCell(
        dataset=value.dataset,
        resolution=value.resolution,
        autoencoder=names["autoencoders"],
        diffusion=names["diffusion"],
        patch_size=value.patch_size,
        tokens=shape.side**2,
        autoencoder_paper_name=value.autoencoder,
        diffusion_paper_name=value.diffusion,
        dataset_paper_name=value.dataset,
        published_dataset=value.dataset,
        published_resolution=value.resolution,
        spatial_compression=autoencoder.spatial_compression,
        latent_channels=autoencoder.latent_channels,
        tables=(int(value.table),),
        measures=protocol.measures,
    )
    name = f"table{value.table}-{value.resolution}px-{names['diffusion']}-p{value.patch_size}-{names['autoencoders']}"
    shapes = [vars(shape) | {"entry": diffusion.decisive()}]
    if protocol.measures == "denoiser":
        return SuiteRow(name, cell, denoiser.VALUES, lambda by, device: profile_denoiser(shape, by, device), (shapes,))
    from evaluation.efficiency import end_to_end  # needs diffusers, the other rows do not

    recipe = config.entry("recipes", diffusion.recipe)
    text_encoder = suite.text_encoders.get(names["diffusion"], diffusion.text_encoder)

    def measure(by: EfficiencyProtocol, device: str) -> Profile:
        return end_to_end.profile_end_to_end(shape, autoencoder, recipe, by, device, config, text_encoder)

    encoder = text_encoder.model_dump(mode="json") if text_encoder else {}
    entries = (shapes, autoencoder, recipe, encoder)
    return SuiteRow(name, cell, end_to_end.VALUES, measure, entries)


_ONE_OF = {"diffusion": "diffusion", "autoencoders": "autoencoder"}


# --- rows of autoencoders ---


def _rows_of(
    suite: SuiteEntry,
    config: Config,
    named: dict[str, list[int]],
    measures: str,
    measure: Callable[..., Profile],
    values: tuple[str, ...],
) -> Iterable[SuiteRow]:
    for name, resolutions in named.items():
        entry = _autoencoder(suite, name, config)
        for resolution in resolutions:
            cell = TableCell(
                dataset=None,
                resolution=resolution,
                autoencoder=name,
                autoencoder_paper_name=entry.paper_name,
                spatial_compression=entry.spatial_compression,
                latent_channels=entry.latent_channels,
                tables=(),
                measures=measures,
            )

            def of_row(by: EfficiencyProtocol, device: str, entry=entry, resolution=resolution) -> Profile:
                return measure(entry, resolution, by, device, config)

            below = [config.entry("autoencoders", entry.autoencoder)] if entry.kind == "space-to-channel" else []
            row = f"{measures}-{resolution}px-{name}"
            yield SuiteRow(row, cell, values, of_row, (entry, *below, resolution))


def _autoencoder_rows(suite: SuiteEntry, config: Config) -> Iterable[SuiteRow]:
    return _rows_of(suite, config, suite.resolutions, "autoencoder", profile_autoencoder, autoencoder.VALUES)


def _phase_rows(suite: SuiteEntry, config: Config) -> Iterable[SuiteRow]:
    return _rows_of(suite, config, suite.phases, "phases", profile_phases, autoencoder.VALUES_OF_PHASES)


# --- cells in records ---


def described(cell: TableCell) -> dict[str, Any]:
    """Return a cell as a suite's record has it, which no benchmark describes."""
    known = {name: value for name, value in vars(cell).items() if value is not None}
    return {**known, "tables": list(cell.tables), **({"table": cell.tables[0]} if cell.tables else {})}


def read_cell(record: Record) -> TableCell:
    """Return the cell that a record of a suite describes."""
    given = {each.name: record.cell[each.name] for each in fields(TableCell) if each.name in record.cell}
    return TableCell(**{"dataset": None, **given, "tables": tuple(record.cell["tables"])})


# --- measuring ---


def measure_row(
    suite: SuiteEntry, protocol: EfficiencyProtocol, folders: Iterable[Path], name: str, device: str, threads: int
) -> Profile:
    """Measure the row of a name, in a process of its own; if it fails as a whole, the profile has the reason.

    Args:
        suite, protocol: their entries.
        folders: of the configuration.
        name: of the row.
        device: ``cpu`` or ``cuda``.
        threads: of a CPU.

    Raises:
        BackendError: a backend is not installed or does not support the precision.
        ConfigError: an entry has a mistake.
    """
    torch.set_num_threads(threads)
    [row] = suite_rows(suite, protocol, Config(*folders), read_published(), name)
    try:
        return row.measure(protocol, device)
    except (BackendError, ConfigError):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return failed_row(row, failure(error))


def failed_row(row: SuiteRow, why: str) -> Profile:
    """Return the profile of a row without values."""
    return Profile(excluded=dict.fromkeys(row.values, why))


def is_done(path: Path, like: Record) -> bool:
    """Return whether a row has a record of the same configuration, results version, protocol and device.

    Raises:
        ConfigError: it is of another device, which needs a folder of its own.
    """
    if not path.is_file():
        return False
    found = Record.read(path)
    if found.device.get("name") != like.device.get("name"):
        raise ConfigError(
            f"{path} was measured on {found.device.get('name')}, this is {like.device.get('name')}: "
            "give another --output for each device"
        )
    same = (record.provenance.config_digest for record in (found, like))
    return (
        len(set(same)) == 1
        and found.provenance.results_version == like.provenance.results_version
        and found.protocol_fingerprint == like.protocol_fingerprint
    )


def record_path(folder: Path, row: SuiteRow, protocol: EfficiencyProtocol) -> Path:
    """Return the path of a row's record."""
    return Path(folder) / "records" / protocol.name / f"{row.name}.json"


# --- another run of a row ---


def runs_of(path: Path) -> int:
    """Return the number of runs in a row's record; 0 without one."""
    return Record.read(path).conditions.get("runs", 1) if path.is_file() else 0


def with_repeats(value: Value, repeats: list[float]) -> Value:
    """Return a value with further repeats, and with an error no smaller than that of all of them."""
    found = [*value.repeats, *repeats]
    error = None if value.standard_error is None else max(value.standard_error, error_of_repeats(found))
    return value.model_copy(update={"repeats": found, "standard_error": error})


def with_another_run(record: Record, profile: Profile) -> Record:
    """Return a row's record with the repeats of another run, and with remarks on all of its repeats.

    Values stay those of the first run; the error grows to that of all repeats.
    """
    values = {
        name: with_repeats(value, profile.values[name].repeats) if name in profile.values else value
        for name, value in record.values.items()
    }
    old = set(disagreements(record.values))
    runs = record.conditions.get("runs", 1) + 1
    return record.model_copy(
        update={
            "values": values,
            "conditions": {**record.conditions, "runs": runs},
            "remarks": [*(each for each in record.remarks if each not in old), *disagreements(values)],
        }
    )
