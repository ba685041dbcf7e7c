# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison: means with errors, and the differences of any two autoencoders image by image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from dcae.benchmark.record import Value
from evaluation.comparison.measuring import Measured
from evaluation.jackknife import mean_and_standard_error
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import RECONSTRUCTION, Metric
from evaluation.tables.numbers import DISTINGUISHABLE, NOTHING

PER_IMAGE = ("psnr", "ssim", "lpips")
METRICS = {metric.name: metric for metric in RECONSTRUCTION}


@dataclass(frozen=True)
class Difference:
    """Of two autoencoders on the same images: mean of (a - b), its standard error, and how many images."""

    mean: float
    standard_error: float | None
    n: int

    @property
    def distinguishable(self) -> bool:
        if math.isinf(self.mean):  # one of them is perfect
            return True
        return self.standard_error is not None and abs(self.mean) > DISTINGUISHABLE * self.standard_error

    def verdict(self, metric: Metric) -> str:
        """Whether the first one is better, worse, or not distinguishable from the second."""
        if not self.distinguishable:
            return "not distinguishable"
        return "better" if (self.mean > 0) == (metric.better == "higher") else "worse"


def difference(a: Measured, b: Measured, metric: str) -> Difference:
    """Paired: its error is far smaller than that of either mean, since images differ more than autoencoders do.

    Images that both reconstruct perfectly differ by nothing, though their PSNR is infinite. That of rFID is jackknifed
    over the same groups of images.
    """
    if metric == "rfid":
        found = a.rfid.minus(b.rfid)
        return Difference(found.estimate, found.standard_error, sum(found.sizes))
    values_a, values_b = a.per_image[metric], b.per_image[metric]
    differences = torch.where(values_a == values_b, torch.zeros_like(values_a), values_a - values_b)
    mean, error = mean_and_standard_error(differences)
    return Difference(mean, error, len(differences))


def main_table(measured: Mapping[str, Measured], shapes: Mapping[str, str], title: str, caption: str) -> Table:
    """A row for each autoencoder; the best of a metric is bold if it differs from every other, image by image."""
    names = [name for name in METRICS if any(name in each.values for each in measured.values())]
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Latent shape", "Latent shape")]
    for name in names:
        suffix = " [random features]" if _random(measured, name) else ""
        metric = METRICS[name]
        columns.append(Column(metric.title + suffix, metric.title + metric.arrow + suffix, measured=True))
    columns.append(Column("N", "N", in_csv=False))
    best = {name: _best(measured, name) for name in names}
    rows = []
    for autoencoder, each in measured.items():
        numbers = [_number(each.values.get(name), METRICS[name], best[name] == autoencoder) for name in names]
        rows.append([autoencoder, shapes[autoencoder], *numbers, str(each.values["psnr"].n)])
    return Table(title, caption, columns, [Section("Reconstruction", rows)], [], forms=("csv", "md"))


def _random(measured: Mapping[str, Measured], name: str) -> bool:
    return any(each.values[name].random_features for each in measured.values() if name in each.values)


def _number(value: Value | None, metric: Metric, bold: bool) -> Number:
    if value is None:
        return NOTHING
    return Number(value.value, metric.decimals, standard_error=value.standard_error, n=value.n, bold=bold)


def _best(measured: Mapping[str, Measured], name: str) -> str | None:
    """The autoencoder that is better than every other by more than the error of their difference, if there is one."""
    if len(measured) < 2:
        return None
    metric = METRICS[name]
    order = sorted(measured, key=lambda each: measured[each].values[name].value, reverse=metric.better == "higher")
    first, *others = order
    verdicts = {difference(measured[first], measured[other], name).verdict(metric) for other in others}
    return first if verdicts == {"better"} else None


def paired_table(measured: Mapping[str, Measured]) -> Table:
    """A row for each two autoencoders: the differences of their per-image values, with verdicts."""
    names = [name for name in METRICS if all(name in each.values for each in measured.values())]
    columns = [Column("First", "First", label=True), Column("Second", "Second", label=True)]
    for name in names:
        title = METRICS[name].title
        columns += [Column(title, f"Δ {title}", measured=True), Column(f"{title}, first is", "first is", label=True)]
    rows = []
    for first, second in combinations(measured, 2):
        row: list[str | Number] = [first, second]
        for name in names:
            found = difference(measured[first], measured[second], name)
            number = Number(found.mean, METRICS[name].decimals, standard_error=found.standard_error, n=found.n)
            row += [replace(number, signed=True), found.verdict(METRICS[name])]
        rows.append(row)
    caption = (
        "First minus second, mean over the images ± standard error; better or worse if it is more than "
        f"{DISTINGUISHABLE:g} standard errors from zero."
    )
    sections = [Section("Differences", rows)] if rows else []
    return Table("Differences, image by image", caption, columns, sections, [], forms=("csv", "md"))


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
