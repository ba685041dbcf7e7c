# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison: means with errors, and the differences of any two autoencoders image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas

from dcae.benchmark.record import Record, Value
from evaluation.metrics.paired import Comparison, compare
from evaluation.metrics.registry import METRICS, QualityMetric, image_metrics, metrics_of_reconstructions
from evaluation.quality.reconstruction import Reconstruction
from evaluation.tables.controls import CONTROLS
from evaluation.tables.formats import Column, Number, Section, Source, Table
from evaluation.tables.metrics import Metric, reconstruction_column
from evaluation.tables.numbers import NOTHING, number
from evaluation.tables.paired import difference_columns, difference_entries

Measured = Mapping[str, Reconstruction]  # by autoencoder


def difference(a: Reconstruction, b: Reconstruction, metric: Metric | QualityMetric) -> Comparison | None:
    """Subtract a metric of b from that of a on the same images; ``None`` if one of them is perfect."""
    rows_a, rows_b = ({"image": np.arange(len(v)), **v} for v in (_arrays(a), _arrays(b)))
    return compare(metric.name, a.values[metric.name], b.values[metric.name], rows_a, rows_b, metric.better)


def _arrays(measured: Reconstruction) -> dict[str, np.ndarray]:
    return {name: column.numpy() for name, column in measured.per_image.items()}


def _columns(measured: Measured, metrics: Sequence[QualityMetric]) -> list[Metric]:
    """Return the metrics that some autoencoder has a value of."""
    columns = map(reconstruction_column, metrics_of_reconstructions(metrics))
    return [metric for metric in columns if any(metric.name in each.values for each in measured.values())]


def main_table(
    measured: Measured,
    shapes: Mapping[str, str],
    title: str,
    caption: str,
    metrics: Sequence[QualityMetric] = METRICS,
    records: Mapping[str, Record] | None = None,
) -> Table:
    """Return a row per autoencoder; the best value is bold if it differs from every other, image by image.

    Args:
        measured: by autoencoder.
        shapes: of the latents of each.
        title, caption: of the table.
        metrics: that were measured.
        records: of each, which numbers on a page open.
    """
    shown = _columns(measured, metrics)
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Latent shape", "Latent shape")]
    for metric in shown:
        suffix = " [random features]" if _random(measured, metric.name) else ""
        columns.append(Column(metric.title + suffix, metric.title + metric.arrow + suffix, measured=True))
    subsets = _subsets(measured, shown)
    for metric, subset in subsets:
        suffix = " [random features]" if _random(measured, f"{metric.name}_{subset}") else ""
        heading = f"{metric.title}{metric.arrow} {subset}{suffix}"
        columns.append(Column(f"{metric.title}, {subset}{suffix}", heading, measured=True))
    counts = ["psnr", *dict.fromkeys(f"psnr_{subset}" for _, subset in subsets)]
    titles = ["N", *dict.fromkeys(f"N {subset}" for _, subset in subsets)]
    columns += [Column(heading, heading, in_csv=False) for heading in titles]
    best = {metric.name: _best(measured, metric) for metric in shown}
    rows = []
    for autoencoder, each in measured.items():
        numbers = []
        for metric, name in [*((m, m.name) for m in shown), *((m, f"{m.name}_{subset}") for m, subset in subsets)]:
            source = Source(records[autoencoder], name) if records else None
            numbers.append(_number(each.values.get(name), metric, best.get(name) == autoencoder, source))
        rows.append([autoencoder, shapes[autoencoder], *numbers, *(str(each.values[name].n) for name in counts)])
    return Table(title, caption, columns, [Section("Reconstruction", rows)], [])


def _subsets(measured: Measured, shown: list[Metric]) -> list[tuple[Metric, str]]:
    """Return the metrics of the pictures with faces, with text, ..., that were measured."""
    values = next(iter(measured.values())).values
    subsets = [name.removeprefix("psnr_") for name in values if name.startswith("psnr_")]
    return [(metric, subset) for subset in subsets for metric in shown if f"{metric.name}_{subset}" in values]


def _random(measured: Measured, name: str) -> bool:
    return any(each.values[name].random_features for each in measured.values() if name in each.values)


def _number(value: Value | None, metric: Metric, bold: bool, source: Source | None) -> Number:
    return replace(number(value, metric, source=source), bold=bold) if value else NOTHING


def _best(measured: Measured, metric: Metric) -> str | None:
    """Return the autoencoder that is better than every other, image by image, and that no control beats."""
    contending = {key: each for key, each in measured.items() if not each.per_image["psnr"].isinf().all()}
    if len(contending) < 2 or any(metric.name not in each.values for each in contending.values()):
        return None
    higher = metric.better == "higher"
    first, *others = sorted(contending, key=lambda each: contending[each].values[metric.name].value, reverse=higher)
    found = [difference(contending[first], contending[other], metric) for other in others]
    decided = first not in CONTROLS and all(each and each.verdict == "better" for each in found)
    return first if decided else None


def paired_table(
    measured: Measured, metrics: Sequence[QualityMetric] = METRICS, records: Mapping[str, Record] | None = None
) -> Table:
    """Return a row for each two autoencoders: the differences of their metrics on the same images, with verdicts."""
    shown = [m for m in _columns(measured, metrics) if all(m.name in each.values for each in measured.values())]
    columns = [Column("A", "A", label=True), Column("B", "B", label=True)]
    columns += [column for metric in shown for column in difference_columns(metric, _random(measured, metric.name))]
    rows = []
    for a, b in combinations(measured, 2):
        row: list[str | Number] = [a, b]
        for metric in shown:
            source = Source(records[a], metric.name) if records else None
            row += difference_entries(difference(measured[a], measured[b], metric), metric, source)
        rows.append(row)
    caption = (
        "A less B, mean over the images ± one standard error, and which of the two is better: A, B, or = where the "
        "95 % interval of the difference (Student's t; rFID: jackknife over groups of images) includes zero; – where "
        "one of them is perfect. PSNR: of the images that neither returns unchanged. Each comparison is a test of its "
        "own: of twenty between equals, one is expected to differ."
    )
    sections = [Section("Differences", rows)] if rows else []
    return Table("Differences, image by image", caption, columns, sections, [])


def per_image_csv(measured: Measured, names: list[str], metrics: Sequence[QualityMetric] = METRICS) -> str:
    """Return a line per image and autoencoder: file, autoencoder, and the values at full precision."""
    shown = [metric.name for metric in image_metrics(metrics)]
    frames = [
        pandas.DataFrame({"image": names, "autoencoder": autoencoder} | {m: _arrays(each)[m] for m in shown})
        for autoencoder, each in measured.items()
    ]
    return pandas.concat(frames).to_csv(index=False, lineterminator="\n")
