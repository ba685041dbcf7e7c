# SPDX-License-Identifier: Apache-2.0
"""The table of ablations: by study, an autoencoder and its variants, each of which differs from it in one thing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dcae.benchmark.record import Record
from evaluation.metrics.effects import values_of_seeds
from evaluation.published import GAN_VARIANTS, Published, PublishedValue, read_published
from evaluation.tables.comparability import Marks, alike, marks_of_records
from evaluation.tables.formats import Column, Number, Section, Source, Table
from evaluation.tables.metrics import RECONSTRUCTION
from evaluation.tables.notes import about_random_features, covered, stand_ins
from evaluation.tables.numbers import (
    NOTHING,
    SECOND_HAND_NOTE,
    has_paper_column,
    kinds_of_features,
    marked_numbers,
    measured_column,
    paper_column,
    printed_number,
    seeds_column,
)
from evaluation.tables.paired import ALIKE, compare_results
from evaluation.tables.rows import Result, Row, TableCell

KIND = "reconstruction"
BASE = "base"
RFID = next(metric for metric in RECONSTRUCTION if metric.name == "rfid")
VERDICTS = {"better": "better", "worse": "worse", "not distinguishable": ALIKE}
ONE_EACH = "one training each"
STUDIES = {
    "shortcuts": "Residual shortcuts (Figure 3a)",
    "high-resolution": "High-resolution phase (Figure 3b)",
    "gan": "What the GAN trains (Figure 5)",
    "kl": "Autoencoder or variational autoencoder",
    "blocks": "Blocks of the deep stages",
    "recipe": "Recipe or architecture",
    "tuned-layers": "How many layers the second and third phase train",
    "other": "Other differences",
}


@dataclass(frozen=True)
class Member:
    """A row of a study: an autoencoder at one place, and the row of the base that it is compared with.

    ``role``: of an autoencoder that is shown beside the study and compared with nothing.
    """

    study: str
    row: Row
    base: Row | None
    role: str | None = None

    @property
    def is_base(self) -> bool:
        return self.base is self.row

    @property
    def base_name(self) -> str:
        return self.row.cell.autoencoder if self.is_base else self.row.cell.base or "–"

    @property
    def differs(self) -> str:
        return BASE if self.is_base else self.role or self.row.cell.differs


def _members(results: Iterable[Result], planned: Iterable[TableCell]) -> list[Member]:
    """Study by study, place by place: each base, its variants in the order of the benchmark, and others beside."""
    rows = {cell.identity: Row(cell, {}) for cell in planned if cell.diffusion is None}
    measured = set()
    for cell, record in ((each.cell, each.record) for each in results if each.kind == KIND):
        if cell.identity in measured:
            raise ValueError(f"two {KIND} records of one cell: {cell.identity}; keep one of them")
        measured.add(cell.identity)
        rows[cell.identity] = Row(cell, {KIND: record})
    by_place = {(row.cell.dataset, row.cell.resolution, row.cell.autoencoder): row for row in rows.values()}
    groups: dict[tuple, list[Row]] = {}
    for (dataset, resolution, _), row in by_place.items():
        if row.cell.study:
            groups.setdefault((row.cell.study, dataset, resolution, row.cell.base), []).append(row)
    studies = list(dict.fromkeys(study for study, *_ in groups))
    members = []
    for (study, *place), variants in sorted(groups.items(), key=lambda group: studies.index(group[0][0])):
        base = by_place.get(tuple(place))
        members += [Member(study, row, base) for row in ([base] if base else []) + variants]
        dataset, resolution, name = place
        members += [
            Member(study, row, None, role)
            for (*here, _), row in by_place.items()
            for of_study, of_base, role in row.cell.beside
            if (here, of_study, of_base) == ([dataset, resolution], study, name)
        ]
    return members


# --- published numbers ---


def _published(member: Member, published: Published) -> PublishedValue | None:
    """rFID that the paper states for such a variant: in the figure of its study, or else Table 2's for the model."""
    cell = member.row.cell
    size = cell.spatial_compression, cell.latent_channels
    place = {"dataset": cell.published_dataset, "resolution": cell.published_resolution}
    if member.study == "gan":
        name = GAN_VARIANTS.get(cell.gan) if size == (32, 32) else None
        return published.find("figure 5", "rfid", autoencoder=name, **place)
    if member.study == "shortcuts":
        # Both lines have the latent size of f8c4; the one without is of stacked SD-VAE stages.
        stacked = cell.autoencoder_kind == "diffusers"
        how = "without" if stacked else "with" if member.is_base else None
        name = f"f64 {how} residual shortcuts" if size == (64, 256) else None
        return published.find("figure 3a", "rfid", autoencoder=name, **place)
    if member.study == "high-resolution":
        how = "without" if cell.high_resolution_phase == "none" else "with" if member.is_base else None
        name = f"f64 {how} high-resolution phase" if size == (64, 128) else "f8" if size == (8, 4) else None
        return published.find("figure 3b", "rfid", autoencoder=name, **place | {"dataset": None})
    return member.row.published(published, 2, "rfid")


def _sources(values: Iterable[PublishedValue | None]) -> list[str]:
    """Notes on the sources of the paper's numbers and their known oddities."""
    found: dict[str, list[str]] = {}
    for value in values:
        if value:
            remark = f"{value.source}{f' ({value.note})' if value.note else ''}"
            found.setdefault(remark, []).append(f"{value.autoencoder} at {value.resolution} px")
    return [f"Paper, {', '.join(dict.fromkeys(names))}: {remark}." for remark, names in found.items()]


# --- columns ---


def _difference(member: Member, random: bool) -> tuple[Number, str]:
    """rFID less that of the base, if both were measured alike, and whether that is better, worse, or neither (=).

    The error is of the pair, group by group over the same images, or where a record has no groups, as of independent
    values, which decide nothing.
    """
    if member.is_base or not member.base or KIND not in member.row.records or KIND not in member.base.records:
        return NOTHING, "–"
    ours, theirs = (row.value(KIND, "rfid") for row in (member.row, member.base))
    results = [Result(row.cell, row.records[KIND]) for row in (member.row, member.base)]
    comparable = alike(*(result.record for result in results))
    if not ours or not theirs or {ours.random_features, theirs.random_features} != {random} or not comparable:
        return NOTHING, "–"
    source = Source(member.row.records[KIND], "rfid")
    paired = compare_results(*results, RFID, {})
    if paired:
        number = Number(
            paired.difference, 2, standard_error=paired.standard_error, n=paired.n, signed=True, source=source
        )
        verdict = VERDICTS[paired.verdict]
        seeds = min(len(values_of_seeds(value)) for value in (ours, theirs))
        return number, verdict if seeds > 1 or verdict == ALIKE else f"{verdict}, {ONE_EACH}"
    errors = ours.standard_error, theirs.standard_error
    error = None if None in errors else math.hypot(*errors)
    return Number(ours.value - theirs.value, 2, standard_error=error, n=ours.n, signed=True, source=source), "–"


def _places(members: list[Member]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((member.row.cell.dataset, member.row.cell.resolution) for member in members))


def _data(members: list[Member]) -> list[str]:
    """For the caption: data and resolution, where no column says them."""
    places = _places(members)
    return [f"Data: {places[0][0]} at {places[0][1]} px."] if len(places) == 1 else []


def _parameters(record: Record | None) -> Number:
    counted = record.values.get("parameters") if record else None
    return Number(counted.value * 1e-6, source=Source(record, "parameters")) if counted else NOTHING


def _label_columns(members: list[Member]) -> list[tuple[Column, list[str | Number]]]:
    cells = [member.row.cell for member in members]
    varies = len(_places(members)) > 1
    records = [member.row.records.get(KIND) for member in members]
    return [
        (Column("Study", "Study", printed=False), [member.study for member in members]),
        (Column("Dataset", "Dataset", label=True, printed=varies), [cell.dataset for cell in cells]),
        (Column("Resolution", "Resolution", printed=varies), [str(cell.resolution) for cell in cells]),
        (Column("Autoencoder", "Autoencoder", label=True), [cell.autoencoder for cell in cells]),
        (Column("Base", "Base", printed=False), [member.base_name for member in members]),
        (Column("What differs", "What differs", label=True, width=40), [member.differs for member in members]),
        seeds_column(cells),
        (Column("Params (M)", "Params (M)"), [_parameters(record) for record in records]),
    ]


def _metric_columns(
    members: list[Member], papers: list[PublishedValue | None], marks: Marks
) -> list[tuple[Column, list[Number]]]:
    """The measured columns, one for each kind of features that occurs; beside rFID its difference and the paper's."""
    rows = [member.row for member in members]
    columns = []
    for metric in RECONSTRUCTION:
        for random in kinds_of_features(metric, rows):
            suffix = " [random features]" if random else ""
            columns.append((measured_column(metric, random), marked_numbers(metric, random, rows, marks)))
            if metric.name == "rfid":
                column = Column(f"rFID, difference to base{suffix}", f"difference to base{suffix}", measured=True)
                found = [_difference(member, random) for member in members]
                columns.append((column, [difference for difference, _ in found]))
                column = Column(f"rFID, compared with base{suffix}", f"compared with base{suffix}", label=True)
                columns.append((column, [verdict for _, verdict in found]))
        if metric.name == "rfid" and has_paper_column(metric, rows):
            numbers = [printed_number(paper) if paper else NOTHING for paper in papers]
            columns.append((paper_column(metric), numbers))
    return columns


def build_ablations(
    results: Iterable[Result],
    benchmark: str = "",
    published: Published | None = None,
    planned: Iterable[TableCell] = (),
) -> Table:
    """Build the table of ablations, a section for each study.

    Args:
        results, benchmark, published, planned: as of ``evaluation.tables.paper.build_table``.

    Raises:
        ValueError: if two records were made of one cell.
    """
    published = published if published is not None else read_published()
    members = _members(results, planned)
    rows = [member.row for member in members]
    papers = [_published(member, published) for member in members]
    marks = marks_of_records(row.records[KIND] for row in rows if KIND in row.records)
    columns = _label_columns(members) + _metric_columns(members, papers, marks)
    sections: dict[str, list] = {}
    for index, member in enumerate(members):
        heading = STUDIES.get(member.study, member.study)
        sections.setdefault(heading, []).append([entries[index] for _, entries in columns])
    above = [
        f"Ablations{f', benchmark {benchmark}' if benchmark else ''}: under each study an autoencoder (base), and "
        f"below it what it becomes if one thing differs. Measured values ± one standard error{covered(rows)}. "
        "Difference to base: of rFID, positive if worse, by the jackknife over the same groups of images, and over "
        "seeds where both have several; better or worse where its 95 % interval does not hold zero, else =. Of one "
        "training each, the verdict is on these weights and not on their recipes. "
        'Column "paper": rFID as printed there.',
        *_data(members),
        *about_random_features(RECONSTRUCTION, rows),
    ]
    if not members:
        above = ["Ablations: this benchmark has no studies."]
    counts = sorted({row.records[KIND].values["rfid"].n for row in rows if row.value(KIND, "rfid")})
    below = [
        *marks.notes,
        *(stand_ins([row for row, paper in zip(rows, papers, strict=True) if paper])),
        *([f"Images per value: {', '.join(map(str, counts))}."] if counts else []),
        *_sources(papers if has_paper_column(RFID, rows) else []),
        *([SECOND_HAND_NOTE] if has_paper_column(RFID, rows) and any(p and p.second_hand for p in papers) else []),
    ]
    return Table(
        "Ablations",
        " ".join(above),
        [column for column, _ in columns],
        [Section(heading, entries) for heading, entries in sections.items()],
        below,
    )
