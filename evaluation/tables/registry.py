# SPDX-License-Identifier: Apache-2.0
"""The tables of a benchmark: their names and forms, which benchmarks have each, and how it is built.

Importing this module loads neither pandas nor torch: the workflow asks it for the files to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcae.benchmark.benchmark import Benchmark
from evaluation.published import has_published_elsewhere
from evaluation.tables.rows import Result, TableCell

if TYPE_CHECKING:
    from evaluation.tables.formats import Table
    from evaluation.tables.paired import PerImageOfCells

# Raise it when tables change, and say below what each raise changed.
RESULTS_VERSION = 1

FORMS = ("csv", "md", "html", "tex")
WITHOUT_LATEX = ("csv", "md", "html")  # of long texts or many columns


@dataclass(frozen=True)
class Content:
    """The content of a benchmark's tables: its results in its order, its cells, and the values of every image."""

    benchmark: Benchmark
    results: Sequence[Result]
    planned: Sequence[TableCell]
    per_image: PerImageOfCells


@dataclass(frozen=True)
class TableSpec:
    """A table: the function that builds it with imports of its own, its forms, and the benchmarks that have it."""

    build: Callable[[Content], Table]
    forms: tuple[str, ...] = FORMS
    needed: Callable[[Benchmark], bool] = lambda benchmark: True


def _of_paper(number: int) -> Callable[[Content], Table]:
    def build(content: Content) -> Table:
        from evaluation.tables.paper import build_table

        name = content.benchmark.name
        return build_table(number, content.results, name, planned=content.planned, per_image=content.per_image)

    return build


def _ablations(content: Content) -> Table:
    from evaluation.tables.ablations import build_ablations

    return build_ablations(content.results, content.benchmark.name, planned=content.planned)


def _paired(content: Content) -> Table:
    from evaluation.tables.paired import build_paired

    return build_paired(content.results, content.per_image, content.benchmark.name)


def _protocols(content: Content) -> Table:
    from evaluation.tables.protocols import build_protocols

    return build_protocols(content.results, content.benchmark.name)


def _generation_protocols(content: Content) -> Table:
    from evaluation.tables.protocols import build_protocols

    return build_protocols(content.results, content.benchmark.name, "generation")


def _choices(content: Content) -> Table:
    from evaluation.tables.choices import build_choices, choices_of

    return build_choices(choices_of(content.benchmark), content.benchmark.name)


def _published_elsewhere(content: Content) -> Table:
    from evaluation.tables.literature import build_published_elsewhere

    return build_published_elsewhere(content.benchmark.all_autoencoders)


def _subsets(content: Content) -> Table:
    from evaluation.tables.protocols import build_subsets

    return build_subsets(content.results, content.benchmark.name)


TABLES = {
    **{f"table{number}": TableSpec(_of_paper(number)) for number in range(1, 6)},
    "ablations": TableSpec(_ablations),
    "paired": TableSpec(_paired, WITHOUT_LATEX),
    "protocols": TableSpec(_protocols, WITHOUT_LATEX),
    "choices": TableSpec(_choices, WITHOUT_LATEX),
    "published_elsewhere": TableSpec(
        _published_elsewhere, WITHOUT_LATEX, lambda benchmark: has_published_elsewhere(benchmark.all_autoencoders)
    ),
    "generation_protocols": TableSpec(
        _generation_protocols, WITHOUT_LATEX, lambda benchmark: bool(benchmark.further_protocols("generation"))
    ),
    "subsets": TableSpec(_subsets, WITHOUT_LATEX, lambda benchmark: benchmark.has_subsets),
}


def tables_of(benchmark: Benchmark) -> dict[str, TableSpec]:
    """Return the tables that a benchmark has, by name."""
    return {name: table for name, table in TABLES.items() if table.needed(benchmark)}


def build_and_write(content: Content, folder: Path) -> list[Path]:
    """Write the tables of a benchmark, each in its forms. Returns the paths.

    Raises:
        ValueError: if two records were made of one cell.
    """
    from evaluation.tables.formats import write_table

    written = []
    for name, table in tables_of(content.benchmark).items():
        written += write_table(table.build(content), folder, name, table.forms)
    return written
