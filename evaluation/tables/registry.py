# SPDX-License-Identifier: Apache-2.0
"""The tables of a benchmark: their names and forms, which benchmarks have each, and how it is built.

Importing this module loads neither pandas nor torch: the workflow asks it for the files to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcae.benchmark.benchmark import Benchmark
from evaluation.published import PUBLISHED_FOLDER, RECONSTRUCTION_FILE, has_published_elsewhere
from evaluation.tables.cells import planned_cells
from evaluation.tables.rows import Result, cells_over_seeds

if TYPE_CHECKING:
    from evaluation.tables.formats import Table
    from evaluation.tables.paired import PerImageOfCells

# Raise it when tables change, and say below what each raise changed.
# 2: claims; means over seeds
# 3: FID of real images, as they are and autoencoded, below the tables of samples
# 4: latents
RESULTS_VERSION = 4

FORMS = ("csv", "md", "html", "tex")
WITHOUT_LATEX = ("csv", "md", "html")  # of long texts or many columns


@dataclass(frozen=True)
class TableSpec:
    """The forms of a table, and the benchmarks that have it."""

    forms: tuple[str, ...] = FORMS
    needed: Callable[[Benchmark], bool] = lambda benchmark: True


TABLES = {
    "claims": TableSpec(WITHOUT_LATEX),
    "table1": TableSpec(),
    "table2": TableSpec(),
    "table3": TableSpec(),
    "table4": TableSpec(),
    "table5": TableSpec(),
    "ablations": TableSpec(),
    "paired": TableSpec(WITHOUT_LATEX),
    "protocols": TableSpec(WITHOUT_LATEX),
    "latents": TableSpec(WITHOUT_LATEX),
    "choices": TableSpec(WITHOUT_LATEX),
    "published_elsewhere": TableSpec(
        WITHOUT_LATEX, lambda benchmark: has_published_elsewhere(benchmark.all_autoencoders)
    ),
    "generation_protocols": TableSpec(
        WITHOUT_LATEX, lambda benchmark: bool(benchmark.additional_protocols("generation"))
    ),
    "subsets": TableSpec(WITHOUT_LATEX, lambda benchmark: benchmark.has_subsets),
}


def tables_of(benchmark: Benchmark) -> dict[str, TableSpec]:
    """Return the tables that a benchmark has, by name."""
    return {name: table for name, table in TABLES.items() if table.needed(benchmark)}


def build_tables(
    benchmark: Benchmark,
    results: Sequence[Result],
    per_image: PerImageOfCells,
    published_folder: Path = PUBLISHED_FOLDER,
) -> Iterator[tuple[str, Table]]:
    """Build the tables of a benchmark, with their names.

    Args:
        benchmark: its cells without results read "not run".
        results: of any kind, in the order of the benchmark.
        per_image: values of every image by ``TableCell.identity``, where they are there.
        published_folder: published numbers, with ``claims.yaml`` beside it.

    Raises:
        ValueError: if two records were made of one cell.
    """
    from evaluation.claims.claims_file import CLAIMS_FILE, read_claims
    from evaluation.claims.table import build_claims
    from evaluation.claims.verdicts import judge_claims
    from evaluation.published import read_published, read_published_reconstruction
    from evaluation.tables.ablations import build_ablations
    from evaluation.tables.choices import build_choices, choices_of
    from evaluation.tables.latents import build_latents
    from evaluation.tables.literature import build_published_elsewhere
    from evaluation.tables.paired import build_paired
    from evaluation.tables.paper import build_table
    from evaluation.tables.protocols import build_protocols, build_subsets
    from evaluation.tables.seeds import over_seeds

    title = benchmark.name
    planned = cells_over_seeds(cell for _, cell in planned_cells(benchmark))
    results, per_image = over_seeds(results, per_image)
    published = read_published(published_folder)
    claims = read_claims(published_folder.parent / CLAIMS_FILE.name)
    elsewhere = read_published_reconstruction(published_folder / RECONSTRUCTION_FILE.name)
    others = {
        "claims": lambda: build_claims(judge_claims(claims, results, published, planned, per_image), title),
        "ablations": lambda: build_ablations(results, title, published, planned),
        "paired": lambda: build_paired(results, per_image, title),
        "protocols": lambda: build_protocols(results, title),
        "latents": lambda: build_latents(results, title),
        "choices": lambda: build_choices(choices_of(benchmark), title),
        "published_elsewhere": lambda: build_published_elsewhere(benchmark.all_autoencoders, elsewhere),
        "generation_protocols": lambda: build_protocols(results, title, "generation"),
        "subsets": lambda: build_subsets(results, title),
    }
    for name in tables_of(benchmark):
        if name in others:
            yield name, others[name]()
        else:
            number = int(name.removeprefix("table"))
            yield name, build_table(number, results, title, published, planned, per_image)


def write_tables(
    benchmark: Benchmark,
    results: Sequence[Result],
    per_image: PerImageOfCells,
    folder: Path,
    published_folder: Path = PUBLISHED_FOLDER,
) -> list[Path]:
    """Write the tables of a benchmark, each in its forms; arguments as of ``build_tables``. Returns the paths."""
    from evaluation.tables.formats import write_table

    written = []
    for name, table in build_tables(benchmark, results, per_image, published_folder):
        written += write_table(table, folder, name, TABLES[name].forms)
    return written
