# SPDX-License-Identifier: Apache-2.0
"""From records to table rows: which records belong to one row, under which heading it stands, and how it is named.

A record's ``cell`` says what was measured (``dataset``, ``resolution``, ``autoencoder``, and ``diffusion``,
``patch_size`` where there is a diffusion model) and what tables need to know about it: ``autoencoder_paper_name``,
``diffusion_paper_name``, ``dataset_paper_name``, ``spatial_compression``, ``latent_channels``, ``tokens``,
``published_dataset``, ``published_resolution``, ``group`` (autoencoders, controls, or of studies alone: ablations and
bases) and ``tables`` (numbers of the tables that the cell belongs to; without them Table 2). An ablation has ``study``,
``base`` (the autoencoder that it is compared with) and ``differs`` (in what).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dcae.benchmark.record import Record, Value
from evaluation.published import Published, PublishedValue

REPRODUCED = "Reproduced: trained here"
RE_EVALUATED = "Re-evaluated: released weights, measured here"
ABLATIONS = "Ablations"
NOT_RUN = "Not run"
CONTROLS = "Controls: their scores are known"
HEADINGS = (REPRODUCED, RE_EVALUATED, ABLATIONS, NOT_RUN, CONTROLS)

IDENTITY = ("dataset", "resolution", "autoencoder", "diffusion", "patch_size")


@dataclass(frozen=True)
class Row:
    """One row of a table: its cell and the records of it, by kind; a row without records was not run."""

    cell: dict[str, Any]
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
        if self.record.number_class == "control":
            return CONTROLS
        if self.cell.get("group") == "ablations":
            return ABLATIONS
        return REPRODUCED if self.record.number_class == "reproduced" else RE_EVALUATED

    @property
    def setting(self) -> tuple:
        """Data, resolution and diffusion model: rows are compared if they share these.

        Entries that are one model in the paper are one here, whatever their guidance, weights or length of training.
        """
        diffusion = self.cell.get("diffusion_paper_name") or self.cell.get("diffusion")
        return self.cell["dataset"], self.cell["resolution"], diffusion

    @property
    def device(self) -> str | None:
        """The device that speed was measured on."""
        return device_name(self.records["efficiency"]) if "efficiency" in self.records else None

    @property
    def patch_size(self) -> int | None:
        return self.cell.get("patch_size")

    def value(self, kind: str, name: str) -> Value | None:
        return self.records[kind].values.get(name) if kind in self.records else None

    def published(self, published: Published, table: int | str, column: str) -> PublishedValue | None:
        """The paper's number beside a value of this row."""
        return published.find(
            table,
            column,
            dataset=self.cell.get("published_dataset"),
            resolution=self.cell.get("published_resolution"),
            autoencoder=self.cell.get("autoencoder_paper_name"),
            diffusion=self.cell.get("diffusion_paper_name"),
            patch_size=self.patch_size,
        )


# --- names ---


def device_name(record: Record) -> str:
    """Name of the device that a record was measured on."""
    return str(record.device.get("name", "unnamed device"))


def display_name(cell: dict[str, Any], kind: str) -> str:
    """An entry's name, with its name in the paper in brackets: ``kind`` is autoencoder, diffusion or dataset."""
    name, paper_name = cell.get(kind), cell.get(f"{kind}_paper_name")
    if name is None or paper_name is None or name == paper_name:
        return name or paper_name or "–"
    return f"{name} ({paper_name})"


def is_stand_in(cell: dict[str, Any]) -> bool:
    """True if the data or the resolution differ from the published cell that stands beside the measured one."""
    measured = cell.get("dataset_paper_name"), cell["resolution"]
    return measured != (cell.get("published_dataset"), cell.get("published_resolution"))


def latent_shape(cell: dict[str, Any]) -> str:
    """Height x width x channels of the latents, as in Table 2 of the paper."""
    if cell.get("latent_shape"):
        return cell["latent_shape"]
    side = cell["resolution"] // cell["spatial_compression"]
    return f"{side}x{side}x{cell['latent_channels']}"


# --- rows ---


def identity(cell: dict[str, Any]) -> tuple:
    """What was measured, without what is only said about it."""
    return tuple(cell.get(field) for field in IDENTITY)


def _published_cell(value: PublishedValue) -> dict[str, Any]:
    """A published row in the form of a record's cell."""
    return {
        "dataset": value.dataset,
        "resolution": value.resolution,
        "autoencoder": None,
        "patch_size": value.patch_size,
        "tokens": value.tokens,
        "latent_shape": value.latent_shape,
        "dataset_paper_name": value.dataset,
        "published_dataset": value.dataset,
        "published_resolution": value.resolution,
        "diffusion_paper_name": value.diffusion,
        "autoencoder_paper_name": value.autoencoder,
        "spatial_compression": value.spatial_compression,
    }


def _rows_of_records(records: list[Record]) -> list[Row]:
    """Records of equal cells joined; one row per device where speed was measured on several."""
    by_cell: dict[tuple, list[Record]] = {}
    for record in records:
        by_cell.setdefault(identity(record.cell), []).append(record)
    rows = []
    for group in by_cell.values():
        joined: dict[str, Record] = {}
        for record in (record for record in group if record.kind != "efficiency"):
            if record.kind in joined:
                raise ValueError(f"two {record.kind} records of one cell: {identity(record.cell)}; keep one of them")
            joined[record.kind] = record
        profiled = {device_name(record): record for record in group if record.kind == "efficiency"}
        if len(profiled) < sum(record.kind == "efficiency" for record in group):
            raise ValueError(f"two efficiency records of one cell and device: {identity(group[0].cell)}; keep one")
        speeds = [{"efficiency": record} for record in profiled.values()] or [{}]
        rows += [Row(group[0].cell, {**joined, **speed}) for speed in speeds]
    return rows


def _not_run(rows: list[Row], published: Published, table: int) -> list[Row]:
    """The published rows that no record fills; none if this benchmark only has stand-ins for the paper's data."""
    if rows and all(is_stand_in(row.cell) for row in rows):
        return []
    fields = ("published_dataset", "published_resolution", "diffusion_paper_name", "autoencoder_paper_name")
    filled = {(*(row.cell.get(field) for field in fields), row.patch_size) for row in rows}
    cells = [_published_cell(value) for value in published.rows(table)]
    return [Row(cell, {}) for cell in cells if (*(cell[field] for field in fields), cell["patch_size"]) not in filled]


def _belongs_to(cell: dict[str, Any], table: int) -> bool:
    return table in cell.get("tables", [2])


def collect_rows(
    records: Iterable[Record], published: Published, table: int, kinds: tuple[str, ...], planned: Iterable[dict] = ()
) -> list[Row]:
    """The rows of a table, under their headings, grouped by data, resolution and diffusion model, f ascending.

    Args:
        records: in the order of the benchmark, which decides between rows that are equal in all else.
        kinds: of the records that the table shows.
        planned: further cells of the benchmark; those without a record become rows that were not run.

    Raises:
        ValueError: if two records were made of one cell.
    """
    chosen = [record for record in records if record.kind in kinds and _belongs_to(record.cell, table)]
    rows = _rows_of_records(chosen)
    known = {identity(row.cell) for row in rows}
    rows += [Row(cell, {}) for cell in planned if identity(cell) not in known and _belongs_to(cell, table)]
    rows += _not_run(rows, published, table)
    settings = list(dict.fromkeys(row.setting[::2] for row in rows))

    def order(row: Row) -> tuple:
        place = settings.index(row.setting[::2])
        return HEADINGS.index(row.heading), place, row.cell["resolution"], row.cell.get("spatial_compression") or 0

    return sorted(rows, key=lambda row: (*order(row), row.patch_size or 0))
