# SPDX-License-Identifier: Apache-2.0
"""Tables of a suite's records: the paper's speeds beside those measured here, from end to end, and of autoencoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dcae.benchmark.record import Record
from evaluation.efficiency.autoencoder import PAPERS_PHASES
from evaluation.efficiency.timing import DISAGREEMENT
from evaluation.published import Published, PublishedValue
from evaluation.tables.formats import Column, Number, Section, Table
from evaluation.tables.notes import PAPER_SPEED
from evaluation.tables.numbers import NOTHING
from evaluation.tables.rows import device_name, display_name

UNSTEADY, EXTRAPOLATED, REFUSED = "u", "x", "r"
NOTES = {
    UNSTEADY: f"{UNSTEADY}: repeats of this value differ by more than {DISAGREEMENT:.0%}, the device was not quiet.",
    EXTRAPOLATED: f"{EXTRAPOLATED}: extrapolated linearly from smaller batches; the record says from which.",
    REFUSED: f"{REFUSED}: not counted, since the optimised model's outputs are not those of the eager one.",
}


@dataclass(frozen=True)
class Quantity:
    """A value of the records as a column; ``ratio``: shown beside its ratio to the base; ``paper``: printed there."""

    name: str
    title: str
    decimals: int
    scale: float = 1.0
    ratio: bool = False
    paper: bool = False


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


# --- rows and their bases ---


def _setting(record: Record) -> tuple:
    return tuple(record.cell[name] for name in ("table", "dataset", "resolution", "diffusion"))


def base_of(record: Record, records: Iterable[Record]) -> Record | None:
    """The SD-VAE-f8 row with the most tokens of the same data and diffusion model: p2, where the paper has it."""
    bases = [each for each in records if each.cell["autoencoder_paper_name"] == "SD-VAE-f8"]
    alike = [each for each in bases if _setting(each) == _setting(record)]
    return max(alike, key=lambda each: each.cell["tokens"], default=None)


def ratio_to_base(record: Record, name: str, records: Iterable[Record]) -> float | None:
    """How many times a value of the base a record's value is."""
    base = base_of(record, records)
    if base is None or name not in record.values or name not in base.values:
        return None
    return record.values[name].value / base.values[name].value


def paper_value(record: Record, name: str, published: Published) -> PublishedValue | None:
    """The number that the paper prints for a row."""
    cell = record.cell
    return published.find(
        cell["table"], name, dataset=cell["dataset"], resolution=cell["resolution"],
        autoencoder=cell["autoencoder_paper_name"], diffusion=cell["diffusion_paper_name"],
        patch_size=cell["patch_size"],
    )  # fmt: skip


def paper_ratio(record: Record, name: str, records: Sequence[Record], published: Published) -> float | None:
    """The same ratio in the paper's numbers."""
    base = base_of(record, records)
    ours = paper_value(record, name, published)
    theirs = paper_value(base, name, published) if base else None
    return ours.value / theirs.value if ours and theirs else None


# --- columns ---


def _number(record: Record, quantity: Quantity, ratio: float | None) -> Number:
    value = record.values.get(quantity.name)
    if value is None:
        why = record.excluded.get(quantity.name)
        if why is None:
            return NOTHING
        return Number(None, missing=why) if "GiB" in why else Number(None, missing=f"refused ({REFUSED})")
    marks = [UNSTEADY] * (value.spread > DISAGREEMENT) + [EXTRAPOLATED] * value.extrapolated
    error = None if value.standard_error is None else value.standard_error * quantity.scale
    return Number(
        value.value * quantity.scale, quantity.decimals, standard_error=error, n=value.n, ratio=ratio,
        mark=",".join(marks),
    )  # fmt: skip


def _quantity_columns(
    records: Sequence[Record], quantities: Iterable[Quantity], published: Published | None
) -> list[tuple[Column, list]]:
    columns = []
    for quantity in quantities:
        ratio = "ratio to SD-VAE-f8" if quantity.ratio else None
        ratios = [ratio_to_base(each, quantity.name, records) if quantity.ratio else None for each in records]
        numbers = [_number(each, quantity, share) for each, share in zip(records, ratios, strict=True)]
        name = quantity.title.removesuffix(" ↑").removesuffix(" ↓")
        columns.append((Column(name, quantity.title, measured=True, ratio=ratio), numbers))
        if quantity.paper and published:
            papers = []
            for each in records:
                paper = paper_value(each, quantity.name, published)
                share = paper_ratio(each, quantity.name, records, published) if quantity.ratio else None
                number = Number(paper.value, paper.decimals, printed=True, ratio=share) if paper else NOTHING
                papers.append(number)
            columns.append((Column(f"{name}, paper", "paper", ratio=ratio), papers))
    return columns


def _label(name: str, of: Callable[[Record], object], records: Sequence[Record], text: bool = False) -> tuple:
    return Column(name, name, label=text), [str(of(each)) for each in records]


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
    marks = {mark for _, entries in columns for each in entries if isinstance(each, Number) for mark in each.mark}
    refused = any(isinstance(each, Number) and "refused" in each.missing for _, found in columns for each in found)
    shown = [note for mark, note in NOTES.items() if mark in marks or (mark == REFUSED and refused)]
    remarks = [
        f"{each.cell['autoencoder']} at {each.cell['resolution']} px: {remark}."
        for each in records
        for remark in each.remarks
        if "tiles" in remark
    ]
    return Table(
        title,
        caption,
        [column for column, _ in columns],
        [Section(name, rows) for name, rows in sections.items()],
        [*shown, *remarks, *notes],
    )


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
        _label("Diffusion model", lambda each: display_name(each.cell, "diffusion"), records, text=True),
        _label("Autoencoder", lambda each: display_name(each.cell, "autoencoder"), records, text=True),
        _label("p", lambda each: each.cell["patch_size"], records),
        _label("Tokens", lambda each: each.cell["tokens"], records),
    ]


def _heading(record: Record) -> str:
    cell = record.cell
    return f"Table {cell['table']}: {cell['dataset']} at {cell['resolution']} px"


def _build_denoiser(records: Sequence[Record], published: Published) -> Table:
    caption = (
        f"Speed, memory and size of the denoisers of Tables 3, 4 and 5. {_measured_on(records)} In brackets: ratio to "
        "the SD-VAE-f8 row with the most tokens, which is what has to reproduce; columns paper: as printed there."
    )
    columns = _rows_of_models(records) + _quantity_columns(records, DENOISER, published)
    return _table("Efficiency", caption, records, columns, _heading, [*_sizes(records), PAPER_SPEED])


def _build_end_to_end(records: Sequence[Record], published: Published) -> Table:
    columns = _rows_of_models(records) + _quantity_columns(records, END_TO_END, None)
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
        _label("Autoencoder", lambda each: display_name(each.cell, "autoencoder"), records, text=True),
        _label("f", lambda each: each.cell["spatial_compression"], records),
        _label("c", lambda each: each.cell["latent_channels"], records),
    ]


def _build_autoencoders(records: Sequence[Record], published: Published) -> Table:
    caption = f"Autoencoders: speed, latency of one image, memory and size. {_measured_on(records)}"
    sizes = "Images in a batch: " + ", ".join(
        dict.fromkeys(
            f"{each.conditions.get('encode_batch_size', '–')} of {each.cell['resolution']} px" for each in records
        )
    )
    columns = _rows_of_autoencoders(records) + _quantity_columns(records, AUTOENCODER, None)
    return _table(
        "Autoencoders", caption, records, columns, lambda each: f"{each.cell['resolution']} px", [sizes + "."]
    )


def _build_phases(records: Sequence[Record], published: Published) -> Table:
    full, middle = PAPERS_PHASES["all"], PAPERS_PHASES["middle"]
    columns = _rows_of_autoencoders(records) + _quantity_columns(records, PHASES, None)
    for title, number in (("All layers, paper", full), ("Middle, paper", middle), ("Ratio, paper", full / middle)):
        columns.append((Column(title, title), [Number(number, 2, printed=True)] * len(records)))
    sizes = sorted({each.conditions["phase_batch_size"] for each in records})
    caption = (
        f"Peak memory of training an autoencoder, all layers and those of phase 2. {_measured_on(records)} Batch size "
        f"{', '.join(map(str, sizes))}, reconstruction loss alone. Paper: section 3.2, at 1024 px; which DC-AE, batch "
        "size and losses it does not say."
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
