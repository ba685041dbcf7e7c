# SPDX-License-Identifier: Apache-2.0
"""The table of latent diagnostics: what can be said of latents before a diffusion model is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dcae.benchmark.record import Record
from evaluation.tables.comparability import marks_of_records
from evaluation.tables.formats import Column, Number, Section, Source, Table
from evaluation.tables.metrics import LATENTS, Metric
from evaluation.tables.numbers import NOTHING, measured_column, number
from evaluation.tables.rows import Result, display_name


def build_latents(results: Iterable[Result], benchmark: str = "") -> Table:
    """Build a row for each reconstruction whose record has diagnostics of latents, and a column for each of them."""
    rows = [each for each in results if each.kind == "reconstruction" and "latent_std" in each.record.values]
    columns = [Column("Autoencoder", "Autoencoder", label=True), Column("Latents", "Latents (h×w×c)", label=True)]
    columns += [measured_column(metric, _is_random(metric, rows)) for metric in LATENTS]
    marks = marks_of_records(each.record for each in rows)
    sections: dict[str, list[list[str | Number]]] = {}
    for each in rows:
        mark = marks.of_record(each.record)
        labels = [display_name(each.cell, "autoencoder"), each.cell.latent_shape]
        sections.setdefault(each.cell.place, []).append(
            [*labels, *(_number(each.record, metric, mark) for metric in LATENTS)]
        )
    caption = (
        f"{f'Benchmark {benchmark}: d' if benchmark else 'D'}iagnostics of latents, from the pass that measures "
        "reconstructions. Std: of all latents, not normalised. Spread: largest over smallest standard deviation of a "
        "channel. Effective rank: exp of the entropy of the eigenvalues of the channels' covariance, at most c. High "
        "frequencies: share of the power at half the Nyquist frequency and above; white noise has 0.75 or more. "
        "Flip and scale error: mean square of E(T x) - T E(x) over the variance of the latents, for a mirrored and a "
        "halved image; 0 is equivariant, 2 unrelated. PSNR and rFID of latents with noise of so many standard "
        "deviations; of every k-th image, so compare them with those of noise 0 alone."
    )
    reasons = Counter(
        (name, reason)
        for each in rows
        for name, reason in each.record.excluded.items()
        if name in {metric.name for metric in LATENTS}
    )
    return Table(
        "Latents",
        caption,
        columns,
        [Section(place, entries) for place, entries in sections.items()],
        [*marks.notes, *(f"Left out in {n} cells: {name}: {reason}." for (name, reason), n in reasons.items())],
    )


def _is_random(metric: Metric, rows: list[Result]) -> bool:
    values = (each.record.values.get(metric.name) for each in rows)
    return any(value and value.random_features for value in values)


def _number(record: Record, metric: Metric, mark: str) -> Number:
    value = record.values.get(metric.name)
    return number(value, metric, mark=mark, source=Source(record, metric.name)) if value else NOTHING
