# SPDX-License-Identifier: Apache-2.0
"""The table of paired comparisons: every two autoencoders on the same images, and which of them is better."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from evaluation.metrics.paired import Comparison, PerImage, compare
from evaluation.tables.comparability import Marks, alike, marks_of_records
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.rows import Result

PerImageOfCells = Mapping[tuple, PerImage]  # ``TableCell.identity``: values of every image
ALIKE = "="
SIGNS = {"better": "A", "worse": "B", "not distinguishable": ALIKE}


def compare_results(a: Result, b: Result, metric: Metric, per_image: PerImageOfCells) -> Comparison | None:
    """Compare one metric of two cells on the same images; ``None`` if it cannot be compared in pairs.

    Numbers of different protocols, or of other images, are never compared.
    """
    values = [result.values.get(metric.name) for result in (a, b)]
    if None in values or not alike(a.record, b.record) or values[0].n != values[1].n:
        return None
    rows = [per_image.get(result.cell.identity) for result in (a, b)]
    return compare(metric.name, *values, *rows, metric.better)


def difference_entries(found: Comparison | None, metric: Metric) -> list[str | Number]:
    """The entries for the columns of ``difference_columns``."""
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


def build_paired(results: Iterable[Result], per_image: PerImageOfCells, benchmark: str = "") -> Table:
    """Compare every two autoencoders of a data set and resolution, controls left out.

    Args:
        results: of any kind, in the order of the benchmark.
        per_image: the values of every image by ``identity`` of their cell; rFID needs none.
        benchmark: its name, for the caption.
    """
    places: dict[str, list[Result]] = {}
    for result in results:
        if result.kind == "reconstruction" and result.record.number_class != "control":
            places.setdefault(result.cell.place, []).append(result)
    measured = [result.record for found in places.values() for result in found]
    random = {
        metric.name: any(metric.name in r.values and r.values[metric.name].random_features for r in measured)
        for metric in RECONSTRUCTION
    }
    columns = [Column("A", "A", label=True), Column("B", "B", label=True)]
    columns += [column for metric in RECONSTRUCTION for column in difference_columns(metric, random[metric.name])]
    marks = marks_of_records(measured)
    sections = []
    for place, found in places.items():
        rows = [
            [
                _marked(a, marks),
                _marked(b, marks),
                *(
                    entry
                    for metric in RECONSTRUCTION
                    for entry in difference_entries(compare_results(a, b, metric, per_image), metric)
                ),
            ]
            for a, b in itertools.combinations(found, 2)
        ]
        if rows:
            sections.append(Section(place, rows))
    above = (
        f"{f'Benchmark {benchmark}: d' if benchmark else 'D'}ifferences between two autoencoders on the same images ± "
        "one standard error, and which of the two is better: A, B, or = where the 95 % interval of the difference "
        "holds zero. PSNR, SSIM and LPIPS: Student's t of the differences of each image. rFID: jackknife over the same "
        "64 groups of images. Each comparison stands for itself: of twenty between equals, one is expected to differ."
    )
    if any(random.values()):
        above += " rFID and LPIPS marked [random features] in the CSV come from networks with seeded random weights."
    notes = [] if sections else ["No two autoencoders were measured on the same images."]
    return Table("Paired comparisons", above, columns, sections, [*marks.notes, *notes])


def _marked(result: Result, marks: Marks) -> str:
    """The autoencoder's name, and in brackets the marks of a measurement that differs from the others."""
    mark = marks.of_record(result.record)
    return result.cell.autoencoder + (f" [{mark}]" if mark else "")
