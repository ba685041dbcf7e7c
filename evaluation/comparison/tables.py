# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison: means with errors, and the differences of any two autoencoders image by image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from dcae.benchmark.record import Value
from evaluation.comparison.measuring import Measured
from evaluation.metrics.paired import Comparison, compare
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.numbers import NOTHING
from evaluation.tables.paired import difference_columns, difference_entries

PER_IMAGE = ("psnr", "ssim", "lpips")
METRICS = {metric.name: metric for metric in RECONSTRUCTION}


def difference(a: Measured, b: Measured, name: str) -> Comparison | None:
    """A metric of one autoencoder less that of another on the same images; ``None`` if one of them is perfect."""
    rows_a, rows_b = ({"image": np.arange(len(v)), **v} for v in (_arrays(a), _arrays(b)))
    return compare(name, a.values[name], b.values[name], rows_a, rows_b, METRICS[name].better)


def _arrays(measured: Measured) -> dict[str, np.ndarray]:
    return {name: column.numpy() for name, column in measured.per_image.items()}


def main_table(measured: Mapping[str, Measured], shapes: Mapping[str, str], title: str, caption: str) -> Table:
    """A row for each autoencoder; the best of a metric is bold if it differs from every other, image by image."""
    names = [name for name in METRICS if any(name in each.values for each in measured.values())]
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Latent shape", "Latent shape")]
    for name in names:
        suffix = " [random features]" if _random(measured, name) else ""
        metric = METRICS[name]
        columns.append(Column(metric.title + suffix, metric.title + metric.arrow + suffix, measured=True))
    subsets = _subsets(measured)
    for metric, subset in subsets:
        suffix = " [random features]" if _random(measured, f"{metric.name}_{subset}") else ""
        title = f"{metric.title}{metric.arrow} {subset}{suffix}"
        columns.append(Column(f"{metric.title}, {subset}{suffix}", title, measured=True))
    counts = ["psnr", *dict.fromkeys(f"psnr_{subset}" for _, subset in subsets)]
    titles = ["N", *dict.fromkeys(f"N {subset}" for _, subset in subsets)]
    columns += [Column(title, title, in_csv=False) for title in titles]
    best = {name: _best(measured, name) for name in names}
    rows = []
    for autoencoder, each in measured.items():
        numbers = [_number(each.values.get(name), METRICS[name], best[name] == autoencoder) for name in names]
        numbers += [_number(each.values.get(f"{metric.name}_{subset}"), metric, False) for metric, subset in subsets]
        rows.append([autoencoder, shapes[autoencoder], *numbers, *(str(each.values[name].n) for name in counts)])
    return Table(title, caption, columns, [Section("Reconstruction", rows)], [])


def _subsets(measured: Mapping[str, Measured]) -> list[tuple[Metric, str]]:
    """The metrics of pictures with faces, with text, …: what was measured of each."""
    first = next(iter(measured.values())).values
    names = dict.fromkeys(name.removeprefix("psnr_") for name in first if name.startswith("psnr_"))
    return [(METRICS[name], subset) for subset in names for name in PER_IMAGE if f"{name}_{subset}" in first]


def _random(measured: Mapping[str, Measured], name: str) -> bool:
    return any(each.values[name].random_features for each in measured.values() if name in each.values)


def _number(value: Value | None, metric: Metric, bold: bool) -> Number:
    if value is None:
        return NOTHING
    return Number(value.value, metric.decimals, standard_error=value.standard_error, n=value.n, bold=bold)


def _best(measured: Mapping[str, Measured], name: str) -> str | None:
    """The autoencoder that is better than every other, image by image; controls that are perfect do not contend."""
    contending = {key: each for key, each in measured.items() if not each.per_image["psnr"].isinf().all()}
    if len(contending) < 2 or any(name not in each.values for each in contending.values()):
        return None
    higher = METRICS[name].better == "higher"
    first, *others = sorted(contending, key=lambda each: contending[each].values[name].value, reverse=higher)
    found = [difference(contending[first], contending[other], name) for other in others]
    return first if all(each and each.verdict == "better" for each in found) else None


def paired_table(measured: Mapping[str, Measured]) -> Table:
    """A row for each two autoencoders: the differences of their metrics on the same images, with verdicts."""
    names = [name for name in METRICS if all(name in each.values for each in measured.values())]
    columns = [Column("A", "A", label=True), Column("B", "B", label=True)]
    columns += [column for name in names for column in difference_columns(METRICS[name], _random(measured, name))]
    rows = []
    for a, b in combinations(measured, 2):
        found = {name: difference(measured[a], measured[b], name) for name in names}
        rows.append([a, b, *(entry for name in names for entry in difference_entries(found[name], METRICS[name]))])
    caption = (
        "A less B, mean over the images ± one standard error, and which of the two is better: A, B, or = where the "
        "95 % interval of the difference (Student's t; rFID: jackknife over groups of images) holds zero; – where one "
        "of them is perfect. Each comparison stands for itself: of twenty between equals, one is expected to differ."
    )
    sections = [Section("Differences", rows)] if rows else []
    return Table("Differences, image by image", caption, columns, sections, [])


def per_image_csv(measured: Mapping[str, Measured], names: list[str]) -> str:
    """A line for each image and autoencoder: file, autoencoder, and the values at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = [name for name in PER_IMAGE if any(name in each.per_image for each in measured.values())]
    writer.writerow(["image", "autoencoder", *metrics])
    for autoencoder, each in measured.items():
        for index, name in enumerate(names):
            writer.writerow([name, autoencoder, *(repr(each.per_image[metric][index].item()) for metric in metrics)])
    return text.getvalue()
