# SPDX-License-Identifier: Apache-2.0
"""The table of choices: every value that no source gives, chosen by this project, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from dcae.benchmark.benchmark import Benchmark
from evaluation.tables.formats import Column, Section, Table

BENCHMARK = "benchmark"
KINDS = {
    BENCHMARK: "Benchmark",
    "autoencoders": "Autoencoders",
    "recipes": "Recipes",
    "diffusion": "Diffusion models",
    "datasets": "Datasets",
    "protocols": "Protocols",
}
WHOLE_ENTRY = "*"


@dataclass(frozen=True)
class Choice:
    """A chosen value: the kind (a key of ``KINDS``) and name of its entry, path and value of the field, the reason.

    The value is as JSON has it: ``None``, a number, a text, a list or a mapping of these.
    """

    kind: str
    entry: str
    field: str
    value: Any
    reason: str


def choices_of(benchmark: Benchmark) -> list[Choice]:
    """Return the choices of a benchmark itself, and of every entry that it uses."""
    files = [(BENCHMARK, benchmark.name, benchmark.content)]
    files += [(kind, entry.name, entry) for kind, entry in benchmark.entries_used()]
    return [Choice(kind, name, *chosen) for kind, name, content in files for chosen in content.chosen()]


def value_text(value: Any) -> str:
    """Return a field's value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def changed_text(choice: Choice, first: Choice) -> str:
    """Return a value; of a mapping that another entry chose before, the fields that differ from that one's."""
    alike = isinstance(choice.value, dict) and isinstance(first.value, dict) and set(choice.value) == set(first.value)
    if choice == first or not alike or choice.value == first.value:
        return value_text(choice.value)
    changed = {name: value for name, value in choice.value.items() if value != first.value[name]}
    return f"as {first.entry}, but {value_text(changed)}"


def build_choices(choices: Iterable[Choice], benchmark: str = "") -> Table:
    """Build a section for each kind of entries and a row for each choice; entries that share a choice share its row."""
    rows: dict[tuple[str, str, str, str], dict[str, None]] = {}
    firsts: dict[tuple[str, str], Choice] = {}
    for choice in choices:
        whole = choice.field == WHOLE_ENTRY
        first = firsts.setdefault((choice.kind, choice.field), choice)
        field, value = ("the whole entry", "–") if whole else (choice.field, changed_text(choice, first))
        reason = " ".join(choice.reason.split())
        rows.setdefault((choice.kind, field, value, reason), {})[choice.entry] = None
    sections = {
        heading: [[", ".join(names), *row] for (of, *row), names in rows.items() if of == kind]
        for kind, heading in KINDS.items()
    }
    columns = [
        Column("Entry", "Entry", label=True, width=32),
        Column("Field", "Field", label=True),
        Column("Value", "Value", label=True, width=32),
        Column("Reason", "Reason", label=True, width=60),
    ]
    above = (
        f"{f'Benchmark {benchmark}: every' if benchmark else 'Every'} value that the paper (arXiv 2410.10733) leaves "
        "open, and why it is as here. All other values follow the sources that the entries name."
    )
    found = [Section(heading, entries) for heading, entries in sections.items() if entries]
    notes = [] if found else ["No entry marks a value as chosen."]
    return Table("Choices", above, columns, found, notes)
