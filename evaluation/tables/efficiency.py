# SPDX-License-Identifier: Apache-2.0
"""Tables of a suite's records: the paper's speeds beside those measured here, from end to end, and of autoencoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from dcae.benchmark.record import Record
from evaluation.efficiency.autoencoder import PAPERS_PHASES
from evaluation.published import Published
from evaluation.tables.efficiency_columns import Quantity, label, notes_of, quantity_columns
from evaluation.tables.efficiency_ratios import paper_ratio
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.notes import PAPER_SPEED
from evaluation.tables.rows import device_name, display_name

REMARKS_TO_SHOW = re.compile("tiles|text encoder|no numbers")  # others stand as marks beside the values
SIZE = (Quantity("parameters", "Params (M)", 2, 1e-6), Quantity("gmacs", "GMACs", 2))
DENOISER = (
    *SIZE,
    Quantity("training_images_per_second", "Training (images/s) ↑", 1, ratio=True, paper=True),
    Quantity("inference_images_per_second", "Inference (images/s) ↑", 1, ratio=True, paper=True),
    Quantity("latency_ms", "Latency (ms) ↓", 1, paper=True),
    Quantity("peak_memory_gib", "Memory (GiB) ↓", 1, paper=True),
    Quantity("training_utilisation", "Training, share of a matrix product (%)", 0, 100),
    Quantity("inference_utilisation", "Inference, share of a matrix product (%)", 0, 100),
)
END_TO_END = (
    Quantity("parameters", "Params (M)", 2, 1e-6),
    Quantity("gmacs_per_generated_image", "GMACs per image", 0),
    Quantity("passes_per_image", "Denoiser passes per image", 0),
    Quantity("generated_images_per_second", "Generated images/s ↑", 2, ratio=True),
    Quantity("generation_latency_ms", "Latency of an image (ms) ↓", 0),
    Quantity("decoding_share", "Decoding (% of the time)", 0, 100),
    Quantity("training_with_encoding_images_per_second", "Training with encoding (images/s) ↑", 1, ratio=True),
    Quantity("encoding_share", "Encoding (% of the time)", 0, 100),
)
AUTOENCODER = (
    Quantity("parameters", "Params (M)", 1, 1e-6),
    *(
        Quantity(f"{how}_{name}", f"{how.capitalize()}: {title}", decimals)
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
    Quantity("full_training_peak_gb", "All layers (GB)", 2),
    Quantity("middle_training_peak_gb", "Middle layers, phase 2 (GB)", 2),
    Quantity("full_to_middle", "Ratio", 2),
)


def _table(
    title: str,
    caption: str,
    records: Sequence[Record],
    columns: list[tuple[Column, list]],
    heading: Callable[[Record], str],
    notes: Iterable[str] = (),
) -> Table:
    sections: dict[str, list] = {}
    for index, record in enumerate(records):
        sections.setdefault(heading(record), []).append([entries[index] for _, entries in columns])
    remarks = [
        f"{each.cell['autoencoder']} at {each.cell['resolution']} px: {remark}."
        for each in records
        for remark in each.remarks
        if REMARKS_TO_SHOW.search(remark)
    ]
    return Table(
        title,
        caption,
        [column for column, _ in columns],
        [Section(name, rows) for name, rows in sections.items()],
        [*mixed_protocols(records), *notes_of(columns), *remarks, *notes],
    )


def mixed_protocols(records: Sequence[Record]) -> list[str]:
    """A warning, if records of a protocol's name were measured before and after it was changed."""
    by_fingerprint: dict[str, list[str]] = {}
    for each in records:
        row = f"{each.cell.get('diffusion') or ''} {each.cell['autoencoder']} at {each.cell['resolution']} px".strip()
        by_fingerprint.setdefault(each.protocol_fingerprint, []).append(row)
    others = sorted(by_fingerprint.values(), key=len, reverse=True)[1:]
    rows = list(dict.fromkeys(row for group in others for row in group))
    return [f"NOT COMPARABLE, MEASURED BY ANOTHER PROTOCOL OF THIS NAME: {'; '.join(rows)}."] if rows else []


def _measured_on(records: Sequence[Record]) -> str:
    """Device, protocol and how it was measured, of records that share these."""
    record = records[0]
    protocol = record.protocol
    parts = [device_name(record), f"protocol {protocol['name']}", protocol["precision"]]
    parts += [f"{work}: {protocol[f'{work}_backend']}" for work in ("training", "inference")]
    return f"Measured on {', '.join(parts)}. Medians ± one standard error."


def _sizes(records: Sequence[Record]) -> list[str]:
    """Batch sizes row by row."""
    found = []
    for each in records:
        sizes = {name.removesuffix("_batch_size"): size for name, size in each.conditions.items() if "batch" in name}
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        found.append(f"{each.cell['diffusion']}, {each.cell['tokens']} tokens: {listed}")
    return [f"Batch sizes: {'; '.join(dict.fromkeys(found))}."]


# --- the tables ---


def _rows_of_models(records: Sequence[Record]) -> list[tuple[Column, list]]:
    return [
        label("Diffusion model", lambda each: display_name(each.cell, "diffusion"), records, text=True),
        label("Autoencoder", lambda each: display_name(each.cell, "autoencoder"), records, text=True),
        label("p", lambda each: each.cell["patch_size"], records),
        label("Tokens", lambda each: each.cell["tokens"], records),
    ]


def _heading(record: Record) -> str:
    cell = record.cell
    return f"Table {cell['table']}: {cell['dataset']} at {cell['resolution']} px"


def _build_denoiser(records: Sequence[Record], published: Published) -> Table:
    caption = (
        f"Speed, memory and size of the denoisers of Tables 3, 4 and 5. {_measured_on(records)} In brackets: ratio to "
        "the SD-VAE-f8 row with the most tokens, which is what has to reproduce; columns paper: as printed there."
    )
    columns = _rows_of_models(records) + quantity_columns(records, DENOISER, published)
    return _table("Efficiency", caption, records, columns, _heading, [*_sizes(records), PAPER_SPEED])


def _build_end_to_end(records: Sequence[Record], published: Published) -> Table:
    columns = _rows_of_models(records) + quantity_columns(records, END_TO_END, None)
    name = "inference_images_per_second"
    shares = [Number(paper_ratio(each, name, records, published), 1, missing="–") for each in records]
    columns.append((Column("Ratio of denoisers, paper", "Ratio of denoisers alone, paper"), shares))
    caption = (
        "From class or text to image with all sampling steps, guidance and decoder; and training with the encoder. "
        f"{_measured_on(records)} In brackets: ratio to the SD-VAE-f8 row with the most tokens."
    )
    return _table("End to end", caption, records, columns, _heading, _sizes(records))


def _rows_of_autoencoders(records: Sequence[Record]) -> list[tuple[Column, list]]:
    return [
        label("Autoencoder", lambda each: display_name(each.cell, "autoencoder"), records, text=True),
        label("f", lambda each: each.cell["spatial_compression"], records),
        label("c", lambda each: each.cell["latent_channels"], records),
    ]


def _build_autoencoders(records: Sequence[Record], published: Published) -> Table:
    caption = f"Autoencoders: speed, latency of one image, memory and size. {_measured_on(records)}"
    sizes = "Images in a batch: " + ", ".join(
        dict.fromkeys(
            f"{each.conditions.get('encode_batch_size', '–')} of {each.cell['resolution']} px" for each in records
        )
    )
    columns = _rows_of_autoencoders(records) + quantity_columns(records, AUTOENCODER, None)
    return _table(
        "Autoencoders", caption, records, columns, lambda each: f"{each.cell['resolution']} px", [sizes + "."]
    )


def _build_phases(records: Sequence[Record], published: Published) -> Table:
    full, middle = PAPERS_PHASES["all"], PAPERS_PHASES["middle"]
    columns = _rows_of_autoencoders(records) + quantity_columns(records, PHASES, None)
    for title, number in (("All layers, paper", full), ("Middle, paper", middle), ("Ratio, paper", full / middle)):
        columns.append((Column(title, title), [Number(number, 2, printed=True)] * len(records)))
    sizes = sorted({each.protocol["phase_batch_size"] for each in records})
    caption = (
        f"Peak memory of training an autoencoder, all layers and those of phase 2. {_measured_on(records)} Batch size "
        f"{', '.join(map(str, sizes))}, reconstruction loss alone. Paper: section 3.2, at 1024 px; which DC-AE, batch "
        "size and losses it does not say. Its GB may be GiB, as in its Tables 3 to 5; the ratio is the same."
    )
    return _table("Memory of phases", caption, records, columns, lambda each: f"{each.cell['resolution']} px")


BUILDERS: dict[str, Callable[[Sequence[Record], Published], Table]] = {
    "denoiser": _build_denoiser,
    "end-to-end": _build_end_to_end,
    "autoencoder": _build_autoencoders,
    "phases": _build_phases,
}


def build_suite_tables(records: Iterable[Record], published: Published) -> dict[str, Table]:
    """A table for each protocol and what it measures, by its name; rows in the order of the records.

    Raises:
        ValueError: records of several devices.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.protocol["name"], record.cell["measures"]), []).append(record)
    devices = sorted({device_name(record) for group in groups.values() for record in group})
    if len(devices) > 1:
        raise ValueError(f"records of several devices: {', '.join(devices)}; make tables of each by itself")
    names = {(protocol, measures): f"{protocol}-{measures}" for protocol, measures in groups}
    return {names[key]: BUILDERS[key[1]](group, published) for key, group in groups.items()}
