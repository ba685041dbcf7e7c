# SPDX-License-Identifier: Apache-2.0
"""The table of paired comparisons: a matrix of the best autoencoders on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dcae.benchmark.record import Value
from evaluation.metrics.effects import MeanOverSeeds, effect
from evaluation.metrics.paired import Comparison, PerImage, compare
from evaluation.tables.comparability import Marks, alike, marks_of_records
from evaluation.tables.formats import Column, Number, Section, Source, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.rows import Result

PerImageOfCells = Mapping[tuple, PerImage]  # ``TableCell.identity``: values of every image
ALIKE = "="
MOST_COMPARED = 12  # autoencoders in a matrix
SIGNS = {"better": "A", "worse": "B", "not distinguishable": ALIKE}


def compare_results(a: Result, b: Result, metric: Metric, per_image: PerImageOfCells) -> Comparison | None:
    """Compare one metric of two cells on the same images; ``None`` if it cannot be compared in pairs.

    Numbers of different protocols, or of other images, are never compared.
    """
    values = [result.values.get(metric.name) for result in (a, b)]
    if None in values or not alike(a.record, b.record) or values[0].n != values[1].n:
        return None
    rows = [per_image.get(result.cell.identity) for result in (a, b)]
    if any(isinstance(value, MeanOverSeeds) for value in values):
        return _compare_over_seeds(metric, values, rows)
    return compare(metric.name, *values, *rows, metric.better)


def _compare_over_seeds(metric: Metric, values: Sequence[Value], rows: Sequence[PerImage | None]) -> Comparison | None:
    known = all(each is not None and metric.name in each for each in rows)
    paired = known and np.array_equal(*(each["image"] for each in rows))
    found = effect(*values, rows=tuple(each[metric.name] for each in rows) if paired else None, same_images=True)
    if found is None or not found.paired:
        return None
    return Comparison.between(found.estimate, found.standard_error, found.low, found.high, found.n, metric.better)


def difference_entries(found: Comparison | None, metric: Metric, source: Source | None = None) -> list[str | Number]:
    """The entries for the columns of ``difference_columns``."""
    if found is None:
        return [Number(None, missing="–"), Number(None, missing="–"), Number(None, missing="–"), "–"]
    difference = Number(
        found.difference, metric.decimals, standard_error=found.standard_error, n=found.n, signed=True, source=source
    )
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
    """Build a matrix for each metric at each place: every two of the best autoencoders, controls left out.

    Args:
        results: of any kind, in the order of the benchmark.
        per_image: the values of every image by ``identity`` of their cell; rFID needs none.
        benchmark: its name, for the caption.
    """
    places: dict[str, list[Result]] = {}
    for result in results:
        if result.kind == "reconstruction" and not result.is_control:
            places.setdefault(result.cell.place, []).append(result)
    measured = [result.record for found in places.values() for result in found]
    marks = marks_of_records(measured)
    matrices = {
        _heading(place, metric, chosen): _matrix(chosen, metric, per_image, marks)
        for place, found in places.items()
        for metric in RECONSTRUCTION
        if len(chosen := _best(found, metric)) > 1
    }
    width = max(map(len, matrices.values()), default=0)
    columns = [
        Column("Autoencoder", "Autoencoder", label=True),
        *(Column(str(i), str(i)) for i in range(1, width + 1)),
    ]
    sections = [
        Section(heading, [row + [""] * (width - len(rows)) for row in rows]) for heading, rows in matrices.items()
    ]
    above = (
        f"{f'Benchmark {benchmark}: d' if benchmark else 'D'}ifferences between two autoencoders on the same images: "
        f"row less column, the best first, at most {MOST_COMPARED}. Bold: the row is better; {ALIKE}: the 95 % "
        "interval of the difference holds zero; –: they cannot be compared. PSNR, SSIM and LPIPS: Student's t of the "
        "differences of each image; rFID: jackknife over the same groups of images. The interval is over images alone, "
        "or over images and seeds where both have several trainings; of one training each, it compares these weights "
        "and not their recipes. Each comparison stands for itself: of twenty between equals, one is expected to differ."
    )
    notes = [] if sections else ["No two autoencoders were measured on the same images."]
    return Table("Paired comparisons", above, columns, sections, [*marks.notes, *notes])


def _best(results: Iterable[Result], metric: Metric) -> list[Result]:
    """The best results in a metric, best first."""
    found = [result for result in results if metric.name in result.values]
    found.sort(key=lambda result: result.values[metric.name].value, reverse=metric.better == "higher")
    return found[:MOST_COMPARED]


def _heading(place: str, metric: Metric, results: Iterable[Result]) -> str:
    random = any(result.values[metric.name].random_features for result in results)
    return f"{place}: {metric.title}{metric.arrow}{' [random features]' if random else ''}"


def _matrix(
    results: list[Result], metric: Metric, per_image: PerImageOfCells, marks: Marks
) -> list[list[str | Number]]:
    """A row for each result: its number, its name, and its difference to every other."""
    rows: list[list[str | Number]] = [
        [f"{i} {_marked(result, marks)}", *["–"] * len(results)] for i, result in enumerate(results, 1)
    ]
    for i, a in enumerate(results):
        rows[i][i + 1] = ""
        for j in range(i + 1, len(results)):
            found = compare_results(a, results[j], metric, per_image)
            if found:
                mark = ALIKE if found.verdict == "not distinguishable" else ""
                for row, column, sign, better in ((i, j, 1, "better"), (j, i, -1, "worse")):
                    rows[row][column + 1] = Number(
                        sign * found.difference, metric.decimals, signed=True, bold=found.verdict == better, mark=mark,
                        source=Source(results[row].record, metric.name),
                    )  # fmt: skip
    return rows


def _marked(result: Result, marks: Marks) -> str:
    """The autoencoder's name, and in brackets the marks of a measurement that differs from the others."""
    mark = marks.of_record(result.record)
    return result.cell.autoencoder + (f" [{mark}]" if mark else "")
