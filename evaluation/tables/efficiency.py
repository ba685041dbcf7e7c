# SPDX-License-Identifier: Apache-2.0
"""Tables of a suite: the paper's speeds beside those measured here, end to end, and of autoencoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from dcae.benchmark.record import Value
from evaluation.efficiency.profile import FAILED
from evaluation.published import Published
from evaluation.tables.comparability import Marks, marks_of_records
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.metrics import Metric
from evaluation.tables.notes import PAPER_SPEED
from evaluation.tables.numbers import (
    NOTHING,
    SD_VAE_F8,
    UNSTEADY,
    UNSTEADY_NOTE,
    base_of,
    measured_column,
    number,
    paper_column,
    paper_number,
    ratio_to_base,
)
from evaluation.tables.rows import Result, Row, TableCell, device_name, display_name

REMARKS_TO_SHOW = re.compile("tiles|text encoder|no numbers")  # others are marks at the values
EXTRAPOLATED, REFUSED, BROKEN = "x", "r", "e"
NOTES = {
    UNSTEADY: UNSTEADY_NOTE,
    EXTRAPOLATED: f"{EXTRAPOLATED}: extrapolated linearly from smaller batches; the record says from which.",
    REFUSED: f"{REFUSED}: not counted, since the optimised model's outputs are not those of the eager one.",
    BROKEN: f"{BROKEN}: could not be measured; the record says which error.",
}


def _metric(
    name: str, title: str, decimals: int, scale: float = 1.0, ratio: bool = False, published: bool = False
) -> Metric:
    """A value of a suite; its title ends with the arrow of the direction that is better."""
    better = {"↑": "higher", "↓": "lower"}.get(title[-1])
    title = title.removesuffix(" ↑").removesuffix(" ↓")
    return Metric("efficiency", name, title, better, decimals, scale, published=published, ratio=ratio)


DENOISER = (
    _metric("parameters", "Params (M)", 2, 1e-6),
    _metric("gmacs", "GMACs", 2),
    _metric("training_images_per_second", "Training (images/s) ↑", 1, ratio=True, published=True),
    _metric("inference_images_per_second", "Inference (images/s) ↑", 1, ratio=True, published=True),
    _metric("latency_ms", "Latency (ms) ↓", 1, published=True),
    _metric("peak_memory_gib", "Memory (GiB) ↓", 1, published=True),
    _metric("training_utilisation", "Training HFU (% of a matrix product)", 0, 100),
    _metric("training_mfu", "Training MFU (% of a matrix product)", 0, 100),
    _metric("inference_utilisation", "Inference MFU (% of a matrix product)", 0, 100),
)
TRAINING_SPEED, INFERENCE_SPEED = DENOISER[2:4]
END_TO_END = (
    _metric("parameters", "Params (M)", 2, 1e-6),
    _metric("gmacs_per_generated_image", "GMACs per image", 0),
    _metric("passes_per_image", "Denoiser passes per image", 0),
    _metric("generated_images_per_second", "Generated images/s ↑", 2, ratio=True),
    _metric("generation_latency_ms", "Latency of an image (ms) ↓", 0),
    _metric("decoding_share", "Decoding (% of the time)", 0, 100),
    _metric("training_with_encoding_images_per_second", "Training with encoding (images/s) ↑", 1, ratio=True),
    _metric("encoding_share", "Encoding (% of the time)", 0, 100),
)
AUTOENCODER = (
    _metric("parameters", "Params (M)", 1, 1e-6),
    *(
        _metric(f"{how}_{name}", f"{how.capitalize()}: {title}", decimals)
        for how in ("encode", "decode")
        for name, title, decimals in (
            ("gmacs", "GMACs", 1),
            ("images_per_second", "images/s ↑", 2),
            ("latency_ms", "latency (ms) ↓", 1),
            ("peak_memory_gib", "memory (GiB) ↓", 2),
        )
    ),
)
PHASES = (
    _metric("full_training_peak_gb", "All layers (GB)", 2),
    _metric("middle_training_peak_gb", "Middle layers, phase 2 (GB)", 2),
    _metric("full_to_middle", "Ratio", 2),
)


def is_base(row: Row) -> bool:
    """Return whether the speeds of other rows may be divided by those of this one."""
    return row.cell.autoencoder_paper_name == SD_VAE_F8


def rows_of(results: Iterable[Result]) -> list[Row]:
    """Rows in the order of the results of a suite, one each."""
    return [Row(result.cell, {result.kind: result.record}) for result in results]


# --- columns ---


def _number(row: Row, metric: Metric, bases: Sequence[Row], marks: Marks) -> Number:
    record = row.records["efficiency"]
    value: Value | None = record.values.get(metric.name)
    if value is None:
        why = record.excluded.get(metric.name)
        if why is None:
            return NOTHING
        if why.startswith(FAILED):
            return Number(None, missing=f"failed ({BROKEN})")
        return Number(None, missing=why) if "GiB" in why else Number(None, missing=f"refused ({REFUSED})")
    letters = [UNSTEADY] * value.is_unsteady + [EXTRAPOLATED] * value.extrapolated
    ratio = ratio_to_base(row, metric, bases) if metric.ratio else None
    return number(value, metric, ratio, ",".join(filter(None, [*letters, marks.of_record(record)])))


def paper_speed(row: Row, metric: Metric, bases: Sequence[Row], published: Published) -> Number:
    """The paper's number for a row, with its ratio to the row that the measured one is divided by."""
    base = base_of(row, bases)
    return paper_number(row, metric, published, row.cell.tables[0], base.cell.patch_size if base else None)


def _metric_columns(
    rows: Sequence[Row], metrics: Iterable[Metric], published: Published, marks: Marks
) -> list[tuple[Column, list]]:
    """The measured numbers of every row, and the paper's beside those that it prints."""
    bases = [row for row in rows if is_base(row)]
    columns = []
    for metric in metrics:
        ratio = f"ratio to {SD_VAE_F8}" if metric.ratio else None
        columns.append((measured_column(metric, ratio=ratio), [_number(row, metric, bases, marks) for row in rows]))
        if metric.published:
            numbers = [paper_speed(row, metric, bases, published) for row in rows]
            columns.append((paper_column(metric, ratio), numbers))
    return columns


def _label(name: str, of: Callable[[TableCell], object], rows: Sequence[Row], text: bool = False) -> tuple:
    return Column(name, name, label=text), [str(of(row.cell)) for row in rows]


def _labels_of_models(rows: Sequence[Row]) -> list[tuple[Column, list]]:
    return [
        _label("Diffusion model", lambda cell: display_name(cell, "diffusion"), rows, text=True),
        _label("Autoencoder", lambda cell: display_name(cell, "autoencoder"), rows, text=True),
        _label("p", lambda cell: cell.patch_size, rows),
        _label("Tokens", lambda cell: cell.tokens, rows),
    ]


def _labels_of_autoencoders(rows: Sequence[Row]) -> list[tuple[Column, list]]:
    return [
        _label("Autoencoder", lambda cell: display_name(cell, "autoencoder"), rows, text=True),
        _label("f", lambda cell: cell.spatial_compression, rows),
        _label("c", lambda cell: cell.latent_channels, rows),
    ]


# --- captions and notes ---


def _legend(columns: Iterable[tuple[Column, list]]) -> list[str]:
    """Explanations of the marks in some columns."""
    numbers = [each for _, entries in columns for each in entries if isinstance(each, Number)]
    marks = {mark for each in numbers for mark in each.mark}
    missing = {each.missing[-2] for each in numbers if each.missing.endswith(")")}
    return [note for mark, note in NOTES.items() if mark in marks | missing]


def _measured_on(rows: Sequence[Row]) -> str:
    """Device, protocol and backends of rows that share these."""
    record = rows[0].records["efficiency"]
    protocol = record.protocol
    parts = [device_name(record), f"protocol {protocol['name']}", protocol["precision"]]
    parts += [f"{work}: {protocol[f'{work}_backend']}" for work in ("training", "inference")]
    return f"Measured on {', '.join(parts)}. Medians ± one standard error."


def _batch_sizes(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        conditions = row.records["efficiency"].conditions
        sizes = {name.removesuffix("_batch_size"): size for name, size in conditions.items() if "batch" in name}
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        found.append(f"{row.cell.diffusion}, {row.cell.tokens} tokens: {listed}")
    return [f"Batch sizes: {'; '.join(dict.fromkeys(found))}."]


def _table(
    title: str,
    caption: str,
    rows: Sequence[Row],
    columns: list[tuple[Column, list]],
    marks: Marks,
    heading: Callable[[TableCell], str],
    notes: Iterable[str] = (),
) -> Table:
    sections: dict[str, list] = {}
    for index, row in enumerate(rows):
        sections.setdefault(heading(row.cell), []).append([entries[index] for _, entries in columns])
    remarks = [
        f"{row.cell.autoencoder} at {row.cell.resolution} px: {remark}."
        for row in rows
        for remark in row.records["efficiency"].remarks
        if REMARKS_TO_SHOW.search(remark)
    ]
    return Table(
        title,
        caption,
        [column for column, _ in columns],
        [Section(name, entries) for name, entries in sections.items()],
        [*marks.notes, *_legend(columns), *remarks, *notes],
    )


# --- the tables ---


def _heading(cell: TableCell) -> str:
    return f"Table {cell.tables[0]}: {cell.dataset} at {cell.resolution} px"


def _resolution(cell: TableCell) -> str:
    return f"{cell.resolution} px"


def _build_denoiser(rows: Sequence[Row], published: Published, marks: Marks) -> Table:
    caption = (
        f"Speed, memory and size of the denoisers of Tables 3, 4 and 5. {_measured_on(rows)} In brackets: ratio to "
        "the SD-VAE-f8 row with the most tokens, which is what has to reproduce; columns paper: as printed there."
    )
    columns = _labels_of_models(rows) + _metric_columns(rows, DENOISER, published, marks)
    return _table("Efficiency", caption, rows, columns, marks, _heading, [*_batch_sizes(rows), PAPER_SPEED])


def _build_end_to_end(rows: Sequence[Row], published: Published, marks: Marks) -> Table:
    columns = _labels_of_models(rows) + _metric_columns(rows, END_TO_END, published, marks)
    bases = [row for row in rows if is_base(row)]
    ratios = [paper_speed(row, INFERENCE_SPEED, bases, published).ratio for row in rows]
    shares = [Number(ratio, 1, missing="–") for ratio in ratios]
    columns.append((Column("Ratio of denoisers, paper", "Ratio of denoisers alone, paper"), shares))
    caption = (
        "From class or text to image with all sampling steps, guidance and decoder; and training with the encoder. "
        f"{_measured_on(rows)} In brackets: ratio to the SD-VAE-f8 row with the most tokens."
    )
    return _table("End to end", caption, rows, columns, marks, _heading, _batch_sizes(rows))


def _build_autoencoders(rows: Sequence[Row], published: Published, marks: Marks) -> Table:
    caption = f"Autoencoders: speed, latency of one image, memory and size. {_measured_on(rows)}"
    sizes = "Images in a batch: " + ", ".join(
        dict.fromkeys(
            f"{row.records['efficiency'].conditions.get('encode_batch_size', '–')} of {row.cell.resolution} px"
            for row in rows
        )
    )
    columns = _labels_of_autoencoders(rows) + _metric_columns(rows, AUTOENCODER, published, marks)
    return _table("Autoencoders", caption, rows, columns, marks, _resolution, [sizes + "."])


def _build_phases(rows: Sequence[Row], published: Published, marks: Marks) -> Table:
    full, middle = (published.peak_of_phase(trains) for trains in ("full", "middle"))
    columns = _labels_of_autoencoders(rows) + _metric_columns(rows, PHASES, published, marks)
    for title, value in (("All layers, paper", full), ("Middle, paper", middle), ("Ratio, paper", full / middle)):
        columns.append((Column(title, title), [Number(value, 2, printed=True)] * len(rows)))
    sizes = sorted({row.records["efficiency"].protocol["phase_batch_size"] for row in rows})
    caption = (
        f"Peak memory of training an autoencoder, all layers and those of phase 2. {_measured_on(rows)} Batch size "
        f"{', '.join(map(str, sizes))}, reconstruction loss alone. Paper: section 3.2, at 1024 px and batch 12; which "
        "DC-AE and losses it does not say. Its GB may be GiB, as in its Tables 3 to 5; the ratio is the same."
    )
    return _table("Memory of phases", caption, rows, columns, marks, _resolution)


BUILDERS: dict[str, Callable[[Sequence[Row], Published, Marks], Table]] = {
    "denoiser": _build_denoiser,
    "end-to-end": _build_end_to_end,
    "autoencoder": _build_autoencoders,
    "phases": _build_phases,
}


def build_suite_tables(results: Iterable[Result], published: Published) -> dict[str, Table]:
    """Build a table for each protocol and kind of measurement, by its name; rows in the order of the results.

    Raises:
        ValueError: records of several devices.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(results):
        groups.setdefault((row.records["efficiency"].protocol["name"], row.cell.measures), []).append(row)
    devices = sorted({row.device for group in groups.values() for row in group})
    if len(devices) > 1:
        raise ValueError(f"records of several devices: {', '.join(devices)}; make tables of each by itself")
    return {
        f"{protocol}-{measures}": BUILDERS[measures](
            rows, published, marks_of_records(row.records["efficiency"] for row in rows)
        )
        for (protocol, measures), rows in groups.items()
    }
