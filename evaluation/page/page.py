# SPDX-License-Identifier: Apache-2.0
"""Results as one HTML file, which needs no network: those of a benchmark, or of a comparison on one's own pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dcae.benchmark.benchmark import Benchmark
from dcae.benchmark.record import Record
from evaluation.claims.verdicts import VERDICTS
from evaluation.metrics.effects import values_of_seeds
from evaluation.page.curves import HEIGHT, WIDTH, Curve, read_curves
from evaluation.page.pictures import Gallery, GridOf, reconstructions, samples
from evaluation.page.scatter import scatter_data
from evaluation.page.sources import Sources, by_protocol, title_of
from evaluation.published import Published, read_published
from evaluation.tables.cells import planned_cells
from evaluation.tables.formats import Number, Table, format_number
from evaluation.tables.paired import PerImageOfCells
from evaluation.tables.registry import build_tables
from evaluation.tables.rows import SUPPLIED, Result, cells_over_seeds, device_name
from evaluation.tables.seeds import over_seeds

# Raise it when the page changes, and say below what each raise changed.
RESULTS_VERSION = 1

FIXED_ORDER = ("paired",)  # matrices, whose rows make no sense in another order
NO_CLAIM_COLUMNS = ("Claim", "Id", "Verdict on the claim", "Statement", "Place in the paper", "Low", "High")


def build_page(
    benchmark: Benchmark,
    results: Sequence[Result],
    per_image: PerImageOfCells,
    grid_of: GridOf,
    logs: Mapping[str, Path],
    problems: list[str] | None = None,
    published: Published | None = None,
) -> str:
    """Return the page of a benchmark.

    Args:
        benchmark: its cells without results are named as not run.
        results: of any kind, in the order of the benchmark.
        per_image: values of every image by ``TableCell.identity``, where they are there.
        grid_of: returns the path of a result's PNG grid, which ``evaluation.quality.image_grid`` wrote.
        logs: name of a training to its log.
        problems: files that were left out, and why; receives a line for each file that cannot be read.
        published: the paper's numbers; by default those of ``config/published``.
    """
    published = published if published is not None else read_published()
    problems = problems if problems is not None else []
    pooled, _ = over_seeds(results, {})
    sources = Sources(each.record for each in pooled)
    tables = dict(build_tables(benchmark, results, per_image))
    return render(
        sources,
        title=benchmark.name,
        description=benchmark.content.description,
        facts=_facts(benchmark, results),
        claims=_claims(tables.pop("claims")),
        choices=tables.pop("choices"),
        tables=tables,
        scatter=scatter_data(pooled, published, sources),
        reconstructions=reconstructions(pooled, grid_of, problems),
        samples=samples(pooled, grid_of, problems),
        curves=read_curves(logs, problems),
        missing={
            "not_run": _not_run(benchmark, pooled),
            "excluded": _excluded(pooled),
            "remarks": [(sources.of_record(each.record), each.record) for each in pooled if each.record.remarks],
            "problems": problems,
        },
    )


def render(
    sources: Sources,
    *,
    title: str,
    description: str,
    facts: Mapping[str, str],
    tables: Mapping[str, Table],
    scatter: Mapping[str, Any],
    reconstructions: Sequence[Gallery],
    warnings: Sequence[str] = (),
    claims: Claims | None = None,
    samples: Sequence[Gallery] | None = None,
    curves: Sequence[Curve] | None = None,
    choices: Table | None = None,
    missing: Mapping[str, Any] | None = None,
) -> str:
    """Return a page; sections that are ``None`` are left out.

    Args:
        sources: of the numbers; receives those of the tables.
        warnings: to read before the numbers, as ``kind: reason``.
        facts: what was run, by name.
        missing: ``not_run``, ``excluded``, ``remarks`` and ``problems``.
    """
    context = {name: value for name, value in locals().items() if name != "sources"}
    return _environment(sources).get_template("page.html.j2").render(context, sources=sources)


def _environment(sources: Sources) -> Environment:
    """Return jinja2 with what the template uses; everything is escaped but the page's own style and script."""
    environment = Environment(
        loader=PackageLoader("evaluation.page", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.globals |= {
        "own_file": lambda name: files("evaluation.page").joinpath(name).read_text(encoding="utf-8"),
        "anchor_of": sources.of_number,
        "of_record": sources.of_record,
        "by_protocol": by_protocol,
        "title_of": title_of,
        "device_name": device_name,
        "provenance_of": _provenance,
        "format_number": format_number,
        "is_number": lambda entry: isinstance(entry, Number),
        "printed": lambda table: [(i, column) for i, column in enumerate(table.columns) if column.printed],
        "values_of_seeds": values_of_seeds,
        "fixed_order": FIXED_ORDER,
        "supplied": SUPPLIED,
        "verdicts": VERDICTS,
        "curve_size": (WIDTH, HEIGHT),
    }
    environment.filters |= {"yaml": _yaml, "short": lambda number: f"{number:.6g}"}
    return environment


def _provenance(record: Record) -> dict[str, Any]:
    """Return what a record's own lines do not say."""
    rest = record.provenance.model_dump(mode="json", exclude={"command", "created", "git_commit", "git_dirty"})
    return {"images": record.dataset_fingerprint, **rest}


def _yaml(content: Any) -> str:
    """Return nested settings as lines for readers."""
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())


# --- what was run ---


def _facts(benchmark: Benchmark, results: Sequence[Result]) -> dict[str, str]:
    """Return what was run, on what, when, by which code and with how many images."""
    records = [result.record for result in results]
    planned = Counter(kind for kind, _ in planned_cells(benchmark))
    done = Counter(record.kind for record in records)
    facts = {"Records": ", ".join(f"{kind} {done[kind]} of {count}" for kind, count in planned.items())}
    if not records:
        return facts
    times = sorted(record.provenance.created.replace("T", " ").replace("+00:00", " UTC") for record in records)
    facts |= {
        "Images": "; ".join(_images(records)),
        "Devices": _counted(map(_device, records)),
        "Time": f"{times[0]} to {times[-1]}, measured in "
        f"{sum(record.provenance.wall_seconds for record in records) / 60:.1f} minutes",
        "Commit": _counted(map(_commit, records)),
        "dcae": _counted(record.provenance.version for record in records),
        "Protocols": _counted(
            f"{measured.protocol.get('name', record.kind)} ({measured.protocol_fingerprint})"
            for record in records
            for measured in by_protocol(record).values()
        ),
        "Software": _counted(
            f"Python {record.provenance.python}, torch {record.provenance.packages.get('torch', '–')}, "
            f"{record.provenance.platform}"
            for record in records
        ),
    }
    return facts


def _counted(texts: Iterable[str]) -> str:
    """Return each text once, with its number of records if there are several texts."""
    counts = Counter(texts)
    return "; ".join(f"{text} [{n}]" if len(counts) > 1 else text for text, n in counts.items())


def _device(record: Record) -> str:
    cores = f", {record.device['cores']} cores" if "cores" in record.device else ""
    return device_name(record) + cores


def _commit(record: Record) -> str:
    commit, dirty = record.provenance.git_commit, record.provenance.git_dirty
    return f"{commit[:12] if commit else 'unknown'}{', with uncommitted changes' if dirty else ''}"


def _images(records: Iterable[Record]) -> Iterator[str]:
    counts: dict[tuple[str, str], set[int]] = {}
    for record in records:
        name = {"reconstruction": "rfid", "generation": "fid_without_guidance"}.get(record.kind)
        if name in record.values:
            place = f"{record.cell['dataset']} at {record.cell['resolution']} px"
            counts.setdefault((record.kind, place), set()).add(record.values[name].n)
    what = {"reconstruction": "reconstructed", "generation": "generated"}
    for (kind, place), found in counts.items():
        yield f"{' or '.join(f'{n:,}' for n in sorted(found))} {what[kind]}, {place}"


# --- claims ---


@dataclass(frozen=True)
class ClaimOnPage:
    """A claim with its verdict, and its comparisons as a table of its own."""

    id: str
    verdict: str
    statement: str
    place: str
    topic: str
    rows: list[list[str | Number]]


@dataclass(frozen=True)
class Claims:
    """The table of claims by claim: caption, notes, counts of verdicts, columns of the comparisons."""

    caption: str
    notes: list[str]
    counts: dict[str, int]
    columns: list[str]
    claims: list[ClaimOnPage]


def _claims(table: Table) -> Claims:
    names = [column.name for column in table.columns]
    kept = [index for index, name in enumerate(names) if name not in NO_CLAIM_COLUMNS]
    claims: dict[str, ClaimOnPage] = {}
    for section in table.sections:
        for row in section.rows:
            facts = dict(zip(names, row, strict=True))
            claim = ClaimOnPage(
                facts["Id"], facts["Verdict on the claim"], facts["Statement"], facts["Place in the paper"],
                section.heading, [],
            )  # fmt: skip
            claims.setdefault(claim.id, claim).rows.append([row[index] for index in kept])
    counts = Counter(claim.verdict for claim in claims.values())
    columns = [table.columns[index].title for index in kept]
    shown = {verdict: counts[verdict] for verdict in VERDICTS}
    return Claims(table.caption, table.notes, shown, columns, list(claims.values()))


# --- what is missing ---


def _not_run(benchmark: Benchmark, pooled: Sequence[Result]) -> dict[str, list[str]]:
    """Return the cells without a record, by kind."""
    known = {(result.kind, result.cell.identity) for result in pooled}
    by_kind: dict[str, list] = {}
    for kind, cell in planned_cells(benchmark):
        by_kind.setdefault(kind, []).append(cell)
    missing = {}
    for kind, cells in by_kind.items():
        for cell in cells_over_seeds(cells):
            if (kind, cell.identity) not in known:
                missing.setdefault(kind, []).append(f"{cell.models}, {cell.dataset} {cell.resolution} px")
    return missing


def _excluded(pooled: Sequence[Result]) -> list[tuple[str, str, int]]:
    """Return the values that could not be measured, with the reason and the number of records."""
    counts = Counter(
        (f"{name}{f' of {protocol}' if protocol else ''}", reason)
        for result in pooled
        for protocol, measured in by_protocol(result.record).items()
        for name, reason in measured.excluded.items()
    )
    return [(name, reason, count) for (name, reason), count in counts.items()]
