# SPDX-License-Identifier: Apache-2.0
"""Captions and notes of Tables 1 to 5: the meaning of their numbers, and limits of comparisons."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.published import Published, PublishedValue
from evaluation.tables.comparability import flat
from evaluation.tables.metrics import METRICS, Metric
from evaluation.tables.numbers import SECOND_HAND_NOTE, UNSTEADY_NOTE, kinds_of_features, paper_value
from evaluation.tables.rows import Row

TITLES = {
    1: "Patch size of the diffusion model versus spatial compression of the autoencoder",
    2: "Reconstruction",
    3: "Class-conditional generation: speed and quality of diffusion models on the autoencoders' latents",
    4: "Generation at high resolution, unconditional or class-conditional",
    5: "Text-to-image generation",
}
COMPARED = {1: "of equal diffusion model and tokens", 2: "of equal latent shape"}
PAPER_SPEED = (
    "The paper's speeds: one step, fp16; training on H100 with PyTorch, inference on H100 with TensorRT, latency on "
    "RTX 3090 with TensorRT at batch 2, memory of training at batch 256. Compare the ratios, not the absolute numbers."
)


def caption(table: int, rows: list[Row], benchmark: str) -> str:
    """The caption of a table: its subject, and how to read it."""
    parts = [f"{TITLES[table]}{f', benchmark {benchmark}' if benchmark else ''}."]
    places = list(dict.fromkeys(row.cell.place for row in rows))
    if table != 2 and len(places) == 1:
        parts.append(f"Data: {places[0]}.")
    parts.append(f'Measured values ± one standard error{covered(rows)}; columns "paper": as printed there.')
    if any(metric.ratio for metric in METRICS[table]):
        parts.append("In brackets: ratio to the row f8 p2 of the same diffusion model.")
    compared = COMPARED.get(table, "of equal data and diffusion model")
    told_apart = (
        "it is better than the next best in a paired comparison over the same images (95 %), or where their rows are "
        "missing, by more than two standard errors"
        if table == 2
        else "it differs from the next best by more than two standard errors of the difference"
    )
    parts.append(f"Bold: the best of the rows {compared} under one heading, if {told_apart}.")
    return " ".join([*parts, *about_random_features(METRICS[table], rows)])


def covered(rows: Iterable[Row]) -> str:
    """The sources of error behind ±, for captions."""
    counts = {row.cell.seeds for row in rows if row.records}
    several = sorted(counts - {1})
    if not several:
        return " over images, of one training each"
    return " over images and seeds" + (", where Seeds is 1 over images alone" if 1 in counts else "")


def about_random_features(metrics: Iterable[Metric], rows: list[Row]) -> list[str]:
    """The use of values from random features, if there are any."""
    random = [metric.title for metric in metrics if True in kinds_of_features(metric, rows)]
    if not random:
        return []
    return [
        f"[random features]: {', '.join(random)} come from networks with seeded random weights; they compare "
        "the rows of one column and say nothing beside the paper's values."
    ]


def notes(table: int, rows: list[Row], published: Published) -> list[str]:
    """The notes below a table, except for those on its controls and protocols."""
    return [
        *stand_ins(rows),
        *_printed_elsewhere(table, rows, published),
        *_image_counts(table, rows),
        *_left_out(table, rows),
        *_remarks_on_data(table, rows),
        *(_fitted(rows) if table == 5 else []),
        *(_speed(rows) if "efficiency" in {metric.kind for metric in METRICS[table]} else []),
        *_other_protocols(table, rows, published),
        *_remarks_on_paper(table, rows, published),
        *_marks(table, rows, published),
    ]


def _marks(table: int, rows: list[Row], published: Published) -> list[str]:
    """Notes on unsteady speeds and second-hand numbers."""
    speeds = [row.value("efficiency", metric.name) for row in rows for metric in METRICS[table]]
    papers = [paper_value(row, metric, published, table) for row in rows for metric in METRICS[table]]
    notes = [UNSTEADY_NOTE] if any(value and value.is_unsteady for value in speeds) else []
    return notes + [SECOND_HAND_NOTE] * any(paper and paper.second_hand for paper in papers)


def stand_ins(rows: list[Row]) -> list[str]:
    """For each measured place, the data and resolution of the paper's numbers beside it, if they differ."""
    found = []
    for cell in (row.cell for row in rows if row.records):
        if cell.is_stand_in and cell.published_dataset:
            found.append(
                f"Beside {cell.dataset} at {cell.resolution} px stand the paper's numbers for "
                f"{cell.published_dataset} at {cell.published_resolution} px: other data and resolution, so they "
                "show the paper's trend and are no target."
            )
    return list(dict.fromkeys(found))


def _printed_elsewhere(table: int, rows: list[Row], published: Published) -> list[str]:
    papers = [paper_value(row, metric, published, table) for row in rows for metric in METRICS[table]]
    others = sorted({paper.table for paper in papers if paper and paper.table != str(table)})
    places = {other: "the README of the authors' code" if other == "readme" else f"Table {other}" for other in others}
    return [f"Paper values of rows that Table {table} does not print are those of {places[other]}." for other in others]


def _image_counts(table: int, rows: list[Row]) -> list[str]:
    counts: dict[str, set[int]] = {}
    for metric in METRICS[table]:
        values = [row.value(metric.kind, metric.name) for row in rows if metric.kind != "efficiency"]
        counts.setdefault(metric.kind, set()).update(value.n for value in values if value)
    return [
        f"Images per {kind} value: {', '.join(map(str, sorted(found)))}." for kind, found in counts.items() if found
    ]


def _left_out(table: int, rows: list[Row]) -> list[str]:
    """The reasons that records give for missing values, with their rows."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for metric in METRICS[table]:
            why = row.records[metric.kind].excluded.get(metric.name) if metric.kind in row.records else None
            if why:
                name = " ".join(filter(None, (row.cell.diffusion, row.cell.autoencoder)))
                reasons.setdefault((metric.title, why), []).append(name)
    return [f"{title} left out of {', '.join(names)}: {why}." for (title, why), names in reasons.items()]


def _remarks_on_data(table: int, rows: list[Row]) -> list[str]:
    """The remarks of quality records on their images, once for each place."""
    kinds = {metric.kind for metric in METRICS[table]} - {"efficiency"}
    remarks: dict[str, None] = {}
    for row in rows:
        for record in (row.records[kind] for kind in kinds if kind in row.records):
            remarks |= dict.fromkeys(f"{row.cell.place}: {remark}." for remark in record.remarks)
    return list(remarks)


def _fitted(rows: list[Row]) -> list[str]:
    """The places whose captions and images were trained on."""
    trained = (row for row in rows if row.record and row.record.number_class == "reproduced")
    places = dict.fromkeys(row.cell.place for row in trained if row.cell.evaluated_on == row.cell.dataset)
    return [
        f"{place}: FID and CLIP score are of samples for the captions, and against the images, that the diffusion "
        "model was trained on: they tell how well these are fitted. The paper does not name its training data."
        for place in places
    ]


def _speed(rows: list[Row]) -> list[str]:
    """Device and protocol of speeds, here and in the paper."""
    found = []
    for row in (row for row in rows if "efficiency" in row.records):
        protocol = flat(row.records["efficiency"].protocol)
        batches = {name: protocol.get(f"{name}_batch_size") for name in ("training", "inference", "latency", "memory")}
        listed = ", ".join(f"{name} {size}" for name, size in batches.items() if size is not None)
        precision = protocol.get("precision", "precision unstated")
        found.append(f"Speed and memory here: denoiser alone, one step, on {row.device}, {precision}; batch: {listed}.")
    return [*dict.fromkeys(found), PAPER_SPEED]


def _other_protocols(table: int, rows: list[Row], published: Published) -> list[str]:
    """How the paper measured, where that differs from how the number beside it was."""
    found: dict[str, dict[str, None]] = {}
    for row in (row for row in rows if not row.cell.is_stand_in):
        for metric in METRICS[table]:
            paper, value = paper_value(row, metric, published, table), row.value(metric.kind, metric.name)
            if metric.kind == "efficiency" or not (paper and paper.protocol and value):
                continue
            name = row.records[metric.kind].protocol.get("name", "unnamed")
            if not paper.measured_alike(name, value.n):
                told = f"{paper.protocol}. Here: {name}, {value.n:,} images"
                found.setdefault(told, {})[_name(paper)] = None
    return [f"Protocol in the paper, {', '.join(names)}: {told}." for told, names in found.items()]


def _name(paper: PublishedValue) -> str:
    """A published row, for notes."""
    name = " ".join(filter(None, (paper.diffusion, paper.autoencoder)))
    return name + (f" p{paper.patch_size}" if paper.patch_size else f" on {paper.dataset} {paper.resolution}")


def _remarks_on_paper(table: int, rows: list[Row], published: Published) -> list[str]:
    """Known oddities of the published numbers shown, each remark once."""
    remarks: dict[str, dict[str, None]] = {}
    for row in rows:
        for metric in METRICS[table]:
            paper = paper_value(row, metric, published, table)
            for remark in paper.note.split("; ") if paper and paper.note else []:
                remarks.setdefault(remark, {})[_name(paper)] = None
    return [f"Paper, {', '.join(names)}: {remark}." for remark, names in remarks.items()]
