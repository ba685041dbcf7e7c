# SPDX-License-Identifier: Apache-2.0
"""The table of paired comparisons: every two autoencoders on the same images, and which of them is better."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from dcae.benchmark.record import Record
from evaluation.metrics.paired import Comparison, PerImage, compare
from evaluation.tables.comparability import Marks, alike, marks_of_records
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.rows import display_name, identity

PerImageOfCells = Mapping[tuple, PerImage]  # identity of a cell: its rows
ALIKE = "="
SIGNS = {"better": "A", "worse": "B", "not distinguishable": ALIKE}


def compare_records(a: Record, b: Record, metric: Metric, per_image: PerImageOfCells) -> Comparison | None:
    """One metric of two cells on the same images; ``None`` if it cannot be compared in pairs.

    Numbers of different protocols, or of other images, are never compared.
    """
    values = [record.values.get(metric.name) for record in (a, b)]
    if None in values or not alike(a, b) or values[0].n != values[1].n:
        return None
    rows = [per_image.get(identity(record.cell)) for record in (a, b)]
    return compare(metric.name, *values, *rows, metric.better)


def difference_entries(found: Comparison | None, metric: Metric) -> list[str | Number]:
    """What stands in the columns of ``difference_columns``."""
    if found is None:
        return [Number(None, missing="–"), Number(None, missing="–"), Number(None, missing="–"), "–"]
    difference = Number(found.difference, metric.decimals, standard_error=found.standard_error, n=found.n, signed=True)
    low, high = (Number(each, metric.decimals, signed=True) for each in (found.low, found.high))
    return [difference, low, high, SIGNS[found.verdict]]


def difference_columns(metric: Metric, random: bool) -> list[Column]:
    """The difference of a metric, its interval, and which of the two is better: A, B or =."""
    name = metric.title + (" [random features]" if random else "")
    return [
        Column(f"{name}, A − B", f"{metric.title}{metric.arrow}: A − B", measured=True),
        Column(f"{name}, low", "low", printed=False),
        Column(f"{name}, high", "high", printed=False),
        Column(f"{name}, better", "better", label=True),
    ]


def build_paired(records: Iterable[Record], per_image: PerImageOfCells, benchmark: str = "") -> Table:
    """Every two autoencoders of a data set and resolution, controls left out.

    Args:
        records: of any kind, in the order of the benchmark.
        per_image: the values of every image by ``identity`` of their cell; rFID needs none.
        benchmark: its name, for the caption.
    """
    places: dict[tuple, list[Record]] = {}
    for record in records:
        if record.kind == "reconstruction" and record.number_class != "control":
            place = display_name(record.cell, "dataset"), record.cell["resolution"]
            places.setdefault(place, []).append(record)
    measured = [record for found in places.values() for record in found]
    random = {
        metric.name: any(metric.name in r.values and r.values[metric.name].random_features for r in measured)
        for metric in RECONSTRUCTION
    }
    columns = [Column("A", "A", label=True), Column("B", "B", label=True)]
    columns += [column for metric in RECONSTRUCTION for column in difference_columns(metric, random[metric.name])]
    marks = marks_of_records(measured)
    sections = []
    for (dataset, resolution), found in places.items():
        rows = [
            [
                _marked(a, marks),
                _marked(b, marks),
                *(
                    entry
                    for metric in RECONSTRUCTION
                    for entry in difference_entries(compare_records(a, b, metric, per_image), metric)
                ),
            ]
            for a, b in itertools.combinations(found, 2)
        ]
        if rows:
            sections.append(Section(f"{dataset} at {resolution} px", rows))
    above = (
        f"{f'Benchmark {benchmark}: d' if benchmark else 'D'}ifferences between two autoencoders on the same images ± "
        "one standard error, and which of the two is better: A, B, or = where the 95 % interval of the difference "
        "holds zero. PSNR, SSIM and LPIPS: Student's t of the differences of each image. rFID: jackknife over the same "
        "64 groups of images. Each comparison stands for itself: of twenty between equals, one is expected to differ."
    )
    if any(random.values()):
        above += " rFID and LPIPS marked [random features] in the CSV come from networks with seeded random weights."
    notes = [] if sections else ["No two autoencoders were measured on the same images."]
    return Table("Paired comparisons", above, columns, sections, [*marks.notes, *notes], forms=("csv", "md", "html"))


def _marked(record: Record, marks: Marks) -> str:
    """The autoencoder's name, and in brackets what tells that it was measured otherwise than the rest."""
    mark = marks.of_record(record)
    return record.cell["autoencoder"] + (f" [{mark}]" if mark else "")
