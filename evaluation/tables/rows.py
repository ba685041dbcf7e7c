# SPDX-License-Identifier: Apache-2.0
"""Cells as tables and figures show them, and the rows of a table: their records, headings and order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from dcae.benchmark.config import split_seed
from dcae.benchmark.record import Record, Value
from evaluation.published import Published, PublishedValue

REPRODUCED = "Reproduced: trained here"
RE_EVALUATED = "Re-evaluated: released weights, measured here"
SUPPLIED = "Supplied by the user: their own weights, measured here"
ABLATIONS = "Ablations"
NOT_RUN = "Not run"
CONTROLS = "Controls: their scores are known"
HEADINGS = (REPRODUCED, RE_EVALUATED, SUPPLIED, ABLATIONS, NOT_RUN, CONTROLS)


SPACE_TO_CHANNEL = "space-to-channel"
FAMILIES = ("DC-AE", "SD-VAE", SPACE_TO_CHANNEL)


def stem(name: str) -> str:
    """Return the family in an autoencoder's name: "SD-VAE" of "SD-VAE-f32c32" and of "sd-vae-f8-demo"."""
    start = re.split(r"-f\d", name)[0]
    return {known.lower(): known for known in FAMILIES}.get(start.lower(), start)


@dataclass(frozen=True)
class TableCell:
    """A cell as tables and figures show it: its entries, and how it is named, grouped and compared.

    ``evaluation.tables.cells`` makes the cells of a benchmark, ``evaluation.efficiency.suite`` those of a suite, and
    ``published_cell`` those of rows that only the paper has.
    """

    # What was measured; a published row has no entries.
    dataset: str | None
    resolution: int  # pixels per side
    autoencoder: str | None = None
    diffusion: str | None = None
    patch_size: int | None = None
    evaluated_on: str | None = None  # dataset that samples are compared with
    # Names in the paper, and the place of the published numbers that it is compared with.
    dataset_paper_name: str | None = None
    autoencoder_paper_name: str | None = None
    diffusion_paper_name: str | None = None
    published_dataset: str | None = None
    published_resolution: int | None = None
    # Sizes.
    spatial_compression: int | None = None
    latent_channels: int | None = None
    tokens: int | None = None
    printed_latent_shape: str | None = None  # of a published row
    # Where it is shown. ``ablations`` and ``bases`` are in studies alone.
    tables: tuple[int, ...] = (2,)
    group: Literal["autoencoders", "controls", "ablations", "bases"] = "autoencoders"
    measures: Literal["denoiser", "end-to-end", "autoencoder", "phases"] | None = None  # of a suite
    # An ablation: its study, the autoencoder that it is compared with, and the difference from that.
    study: str | None = None
    base: str | None = None
    differs: str | None = None
    beside: tuple[tuple[str, str, str], ...] = ()  # study, base and role, where it is shown beside a study
    # The autoencoder, as Figures 3 and 5 compare it; ``None`` where a question does not apply.
    autoencoder_kind: str | None = None
    residual_shortcuts: bool | None = None  # of a DC-AE
    high_resolution_phase: str | None = None  # what a phase at a higher resolution trains: middle, all, ... or none
    gan: str | None = None  # which parameters see a GAN loss: all, decoder-head or none
    built_on: str | None = None  # the autoencoder below a space-to-channel one
    seeds: int = 1  # trainings whose mean the row is
    trained: bool = True  # here, by the benchmark
    supplied: bool = False  # weights of the user, neither trained here nor released

    @property
    def identity(self) -> tuple:
        """The fields that identify a measurement: no names, no groups."""
        return self.dataset, self.resolution, self.autoencoder, self.diffusion, self.patch_size

    @property
    def family(self) -> str:
        """SD-VAE, DC-AE, space-to-channel, or the beginning of another autoencoder's name."""
        if self.autoencoder_kind == SPACE_TO_CHANNEL:
            return SPACE_TO_CHANNEL
        return stem(self.autoencoder_paper_name or self.autoencoder)

    @property
    def models(self) -> str:
        """The autoencoder, or a diffusion model on it, in texts."""
        model = f"{self.diffusion} p{self.patch_size} on " if self.diffusion else ""
        return f"{model}{self.autoencoder}"

    @property
    def place(self) -> str:
        """Dataset and resolution, for headings and notes."""
        return f"{display_name(self, 'dataset')} at {self.resolution} px"

    @property
    def is_stand_in(self) -> bool:
        """True if data or resolution differ from those of the published numbers beside it."""
        measured = self.dataset_paper_name, self.resolution
        return measured != (self.published_dataset, self.published_resolution)

    @property
    def latent_shape(self) -> str:
        """Height x width x channels of the latents, as in Table 2 of the paper."""
        if self.printed_latent_shape:
            return self.printed_latent_shape
        side = self.resolution // self.spatial_compression
        return f"{side}x{side}x{self.latent_channels}"


def published_cell(value: PublishedValue) -> TableCell:
    """The cell of a published row."""
    return TableCell(
        dataset=value.dataset,
        resolution=value.resolution,
        patch_size=value.patch_size,
        tokens=value.tokens,
        printed_latent_shape=value.latent_shape,
        dataset_paper_name=value.dataset,
        published_dataset=value.dataset,
        published_resolution=value.resolution,
        diffusion_paper_name=value.diffusion,
        autoencoder_paper_name=value.autoencoder,
        spatial_compression=value.spatial_compression,
    )


def entry_of(name: str | None) -> str | None:
    """Return the entry in an autoencoder's name, without the seed."""
    return split_seed(name)[0] if name else name


def of_entry(cell: TableCell) -> TableCell:
    """Return a cell of one seed as a cell of its entry."""
    return replace(cell, autoencoder=entry_of(cell.autoencoder), base=entry_of(cell.base))


def cells_over_seeds(cells: Iterable[TableCell]) -> list[TableCell]:
    """Return the cells of entries, once each."""
    return list({(cell := of_entry(each)).identity: cell for each in cells}.values())


def display_name(cell: TableCell, kind: Literal["autoencoder", "diffusion", "dataset"]) -> str:
    """An entry's name, with its name in the paper in brackets.

    A diffusion model beside numbers of other data stands in for the paper's: it may be of another size.
    """
    name, paper_name = getattr(cell, kind), getattr(cell, f"{kind}_paper_name")
    if name is None or paper_name is None or name == paper_name:
        return name or paper_name or "–"
    stands_in = kind == "diffusion" and cell.published_dataset and cell.is_stand_in
    return f"{name} ({'stands in for ' if stands_in else ''}{paper_name})"


@dataclass(frozen=True)
class Result:
    """A record as it was written, and its cell."""

    cell: TableCell
    record: Record

    @property
    def kind(self) -> str:
        return self.record.kind

    @property
    def values(self) -> dict[str, Value]:
        return self.record.values

    @property
    def is_control(self) -> bool:
        """True of an autoencoder whose record says so, and of a denoiser that the benchmark's file names a control."""
        return self.record.number_class == "control" or self.cell.group == "controls"


@dataclass(frozen=True)
class Row:
    """One row of a table: its cell and its records by kind; a row without records was not run."""

    cell: TableCell
    records: dict[str, Record]

    @property
    def record(self) -> Record | None:
        """The record that decides the row's class: of quality if there is one, else of speed."""
        ordered = (self.records.get(kind) for kind in ("reconstruction", "generation", "efficiency"))
        return next(filter(None, ordered), None)

    @property
    def heading(self) -> str:
        if self.record is None:
            return NOT_RUN
        if Result(self.cell, self.record).is_control:
            return CONTROLS
        if self.cell.group == "ablations":
            return ABLATIONS
        if self.record.number_class == "reproduced":
            return REPRODUCED
        return SUPPLIED if self.cell.supplied else RE_EVALUATED

    @property
    def setting(self) -> tuple:
        """Data, resolution and diffusion model: rows are compared if they share these.

        Entries that are one model in the paper are one here, whatever their guidance, weights or length of training.
        """
        return self.cell.dataset, self.cell.resolution, self.cell.diffusion_paper_name or self.cell.diffusion

    @property
    def device(self) -> str | None:
        """The device that speed was measured on."""
        return device_name(self.records["efficiency"]) if "efficiency" in self.records else None

    def value(self, kind: str, name: str) -> Value | None:
        return self.records[kind].values.get(name) if kind in self.records else None

    def published(self, published: Published, table: int | str, column: str) -> PublishedValue | None:
        """The paper's number for this row, in one column of a table."""
        return published.find(
            table,
            column,
            dataset=self.cell.published_dataset,
            resolution=self.cell.published_resolution,
            autoencoder=self.cell.autoencoder_paper_name,
            diffusion=self.cell.diffusion_paper_name,
            patch_size=self.cell.patch_size,
        )


def device_name(record: Record) -> str:
    """Name of the device that a record was measured on."""
    return str(record.device.get("name", "unnamed device"))


# --- rows of a table ---


def _rows_of_results(results: Iterable[Result]) -> list[Row]:
    """Records of equal cells joined; one row per device where speed was measured on several."""
    by_cell: dict[tuple, list[Result]] = {}
    for result in results:
        by_cell.setdefault(result.cell.identity, []).append(result)
    rows = []
    for identity, group in by_cell.items():
        joined: dict[str, Record] = {}
        speeds: dict[str, Record] = {}
        for record in (result.record for result in group):
            found, key = (speeds, device_name(record)) if record.kind == "efficiency" else (joined, record.kind)
            if key in found:
                raise ValueError(f"two {record.kind} records of one cell: {identity}; keep one of them")
            found[key] = record
        by_device = [{"efficiency": record} for record in speeds.values()] or [{}]
        rows += [Row(group[0].cell, joined | speed) for speed in by_device]
    return rows


def _not_run(rows: list[Row], published: Published, table: int) -> list[Row]:
    """The published rows that no record fills; none if this benchmark only has stand-ins for the paper's data."""
    if rows and all(row.cell.is_stand_in for row in rows):
        return []

    def key(cell: TableCell) -> tuple:
        names = cell.diffusion_paper_name, cell.autoencoder_paper_name
        return cell.published_dataset, cell.published_resolution, *names, cell.patch_size

    filled = {key(row.cell) for row in rows}
    cells = map(published_cell, published.rows(table))
    return [Row(cell, {}) for cell in cells if key(cell) not in filled]


def collect_rows(
    results: Iterable[Result],
    published: Published,
    table: int,
    kinds: tuple[str, ...],
    planned: Iterable[TableCell] = (),
) -> list[Row]:
    """The rows of a table, under their headings, grouped by data, resolution and diffusion model, f ascending.

    Args:
        results: in the order of the benchmark, which decides between rows that are equal in all else.
        kinds: of the records that the table shows.
        planned: cells of the benchmark; those without a record become rows that were not run.

    Raises:
        ValueError: if two records were made of one cell.
    """
    rows = _rows_of_results(each for each in results if each.kind in kinds and table in each.cell.tables)
    known = {row.cell.identity for row in rows}
    rows += [Row(cell, {}) for cell in planned if cell.identity not in known and table in cell.tables]
    rows += _not_run(rows, published, table)
    settings = list(dict.fromkeys(row.setting[::2] for row in rows))

    def order(row: Row) -> tuple:
        cell = row.cell
        place = HEADINGS.index(row.heading), settings.index(row.setting[::2]), cell.resolution
        return *place, cell.spatial_compression or 0, cell.patch_size or 0

    return sorted(rows, key=order)
