# SPDX-License-Identifier: Apache-2.0
"""Tables 1 to 5 of the paper, rebuilt from records and the published numbers.

Each measured column has the published one to its right. Published, re-evaluated and reproduced numbers are never mixed:
the first have columns of their own, the others headings of their own. Numbers from random feature networks have
columns of their own too, and say so in the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from evaluation.published import Published, read_published
from evaluation.tables.comparability import Marks, marks_of_records
from evaluation.tables.controls import bounds_of_samples, check_controls, losses, verdict
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import METRICS, Metric
from evaluation.tables.notes import caption, notes
from evaluation.tables.numbers import (
    has_paper_column,
    kinds_of_features,
    measured_column,
    measured_numbers,
    paper_column,
    paper_number,
    seeds_column,
)
from evaluation.tables.paired import PerImageOfCells
from evaluation.tables.rows import CONTROLS, NOT_RUN, SUPPLIED, Result, Row, TableCell, collect_rows, display_name

RATIO = "ratio to f8 p2"
NO_ROWS: PerImageOfCells = MappingProxyType({})


def _name_columns(rows: list[Row], kind: str, printed: bool = True) -> list[tuple[Column, list[str]]]:
    """An entry's name: in print with the paper's name in brackets, in CSV in two columns."""
    title = {"dataset": "Dataset", "diffusion": "Diffusion model", "autoencoder": "Autoencoder"}[kind]
    in_print = Column(title, title, label=True, printed=printed, in_csv=False)
    own, paper = Column(title, title, printed=False), Column(f"{title} in the paper", title, printed=False)
    return [
        (in_print, [display_name(row.cell, kind) for row in rows]),
        (own, [getattr(row.cell, kind) or "–" for row in rows]),
        (paper, [getattr(row.cell, f"{kind}_paper_name") or "–" for row in rows]),
    ]


def _label_columns(table: int, rows: list[Row]) -> list[tuple[Column, list[str]]]:
    """The columns that name a row. Data and resolution are printed where they vary; CSV always has them."""
    cells = [row.cell for row in rows]
    varies = table == 2 or len({(cell.dataset, cell.resolution) for cell in cells}) > 1
    columns = _name_columns(rows, "dataset", printed=varies)
    columns.append((Column("Resolution", "Resolution", printed=varies), [str(cell.resolution) for cell in cells]))
    if table == 2:
        columns.append((Column("Latent shape", "Latent shape"), [cell.latent_shape for cell in cells]))
        return columns + _name_columns(rows, "autoencoder")
    columns += _name_columns(rows, "diffusion") + _name_columns(rows, "autoencoder")
    columns.append((Column("p", "p"), [str(cell.patch_size) for cell in cells]))
    return [*columns, (Column("Tokens", "Tokens"), [str(cell.tokens) for cell in cells])]


def _number_class(row: Row) -> str:
    if row.record is None:
        return NOT_RUN.lower()
    return {SUPPLIED: "supplied", CONTROLS: "control"}.get(row.heading, row.record.number_class)


def _origin_columns(rows: list[Row]) -> list[tuple[Column, list[str]]]:
    """For programs that read the CSV: class of the numbers, device, and the protocols by kind of record."""
    protocols = [
        "; ".join(f"{kind} {record.protocol_fingerprint}" for kind, record in sorted(row.records.items())) or "–"
        for row in rows
    ]
    named = {
        "Number class": [_number_class(row) for row in rows],
        "Device": [row.device or "–" for row in rows],
        "Protocols": protocols,
    }
    return [(Column(name, name, printed=False), texts) for name, texts in named.items()]


def _metric_columns(
    table: int,
    metric: Metric,
    rows: list[Row],
    published: Published,
    marks: Marks,
    per_image: PerImageOfCells,
) -> list[tuple[Column, list[Number]]]:
    """The measured columns (one for each kind of features that occurs), then the paper's."""
    ratio = RATIO if metric.ratio else None
    columns = []
    for random in kinds_of_features(metric, rows):
        numbers = measured_numbers(table, metric, random, rows, marks, per_image)
        images = [each.n for each in numbers if each.n] if metric.kind == "generation" else []
        columns.append((measured_column(metric, random, ratio, images), numbers))
    if metric.published and has_paper_column(metric, rows):
        columns.append((paper_column(metric, ratio), [paper_number(row, metric, published, table) for row in rows]))
    return columns


def build_table(
    number: int,
    results: Iterable[Result],
    benchmark: str = "",
    published: Published | None = None,
    planned: Iterable[TableCell] = (),
    per_image: PerImageOfCells = NO_ROWS,
) -> Table:
    """Build one of Tables 1 to 5 from whatever results there are.

    Args:
        number: of the table.
        results: of any kind, in the order of the benchmark.
        benchmark: its name, for the captions.
        published: the paper's numbers; by default those of ``config/published``.
        planned: cells of the benchmark; without a record they read "not run".
        per_image: values of every image by ``identity`` of their cell; where they are there, they decide what is bold.

    Raises:
        ValueError: if two records were made of one cell.
    """
    results = list(results)
    published = published if published is not None else read_published()
    kinds = tuple(dict.fromkeys(metric.kind for metric in METRICS[number]))
    rows = collect_rows(results, published, number, kinds, planned)
    marks = marks_of_records(row.records[kind] for row in rows for kind in kinds if kind in row.records)
    columns: list[tuple[Column, list]] = _label_columns(number, rows)
    for metric in METRICS[number]:
        columns += _metric_columns(number, metric, rows, published, marks, per_image)
    columns += [seeds_column(row.cell for row in rows), *_origin_columns(rows)]
    sections: dict[str, list] = {}
    for index, row in enumerate(rows):
        sections.setdefault(row.heading, []).append([entries[index] for _, entries in columns])
    above = [caption(number, rows, benchmark)]
    below = [*marks.notes, *notes(number, rows, published)]
    if number == 2 and any("reconstruction" in row.records for row in rows):
        checks = check_controls(result.record for result in results)
        fine = checks and all(check.holds for check in checks)
        (below if fine else above).insert(0, verdict(checks))
    beaten = losses(rows, METRICS[number])
    below += [*bounds_of_samples(rows), *([beaten] if beaten else [])]
    return Table(
        f"Table {number}",
        " ".join(above),
        [column for column, _ in columns],
        [Section(heading, entries) for heading, entries in sections.items()],
        below,
    )
