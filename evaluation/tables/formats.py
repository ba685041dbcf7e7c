# SPDX-License-Identifier: Apache-2.0
"""A table as plain data, and its forms: CSV for programs, Markdown and HTML for readers, LaTeX (booktabs) for papers.

The text of every form depends on the table alone, so that a table built twice is the same to the byte.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas
from jinja2 import Environment
from tabulate import tabulate

from dcae.benchmark.record import Record, write_atomically
from evaluation.published import PublishedValue


@dataclass(frozen=True)
class Source:
    """The value of a record that a number is made from; ``protocol``: name of an additional protocol in the record."""

    record: Record
    value: str
    protocol: str = ""


@dataclass(frozen=True)
class Number:
    """A number in a table; without a value it prints ``missing``.

    A small number gets further decimals than ``decimals`` unless it is ``printed``, that is, known only as printed;
    ``signed``: a positive one gets its sign, too. ``source``: for pages that open the record of a number.
    """

    value: float | None
    decimals: int = 2
    printed: bool = False
    standard_error: float | None = None
    n: int | None = None
    ratio: float | None = None
    bold: bool = False
    mark: str = ""
    signed: bool = False
    missing: str = "not run"
    source: Source | PublishedValue | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV and its title in print.

    ``label``: of text, aligned left; ``measured``: CSV adds columns for standard error and n; ``ratio``: CSV adds a
    column of this name for the ratio; ``width``: characters after which Markdown and HTML break the lines of its text.
    """

    name: str
    title: str
    measured: bool = False
    ratio: str | None = None
    label: bool = False
    printed: bool = True
    in_csv: bool = True
    width: int | None = None


@dataclass(frozen=True)
class Section:
    """Rows under one heading; a row has one text or number per column."""

    heading: str
    rows: list[list[str | Number]]


@dataclass(frozen=True)
class Table:
    """A table with its title and a caption above it, and notes below it."""

    title: str
    caption: str
    columns: list[Column]
    sections: list[Section]
    notes: list[str]


# --- numbers as text ---


MOST_FURTHER_DECIMALS = 3


def _is_zero(size: float | None, number: Number) -> bool:
    """Return whether a size is zero up to rounding, such as the distance of equal features."""
    return size is None or abs(size) < 10.0 ** -(number.decimals + MOST_FURTHER_DECIMALS)


def _decimals(number: Number) -> int:
    """Decimals that show two digits of the value and one of its error, with a limit."""
    if number.printed:
        return number.decimals
    needed = number.decimals
    for size, digits in ((number.value, 2), (number.standard_error, 1)):
        if not _is_zero(size, number) and math.isfinite(size):
            needed = max(needed, digits - 1 - math.floor(math.log10(abs(size))))
    return min(needed, number.decimals + MOST_FURTHER_DECIMALS)


def _text(size: float, decimals: int) -> str:
    if math.isnan(size):
        return "nan"
    if math.isinf(size):
        return "∞" if size > 0 else "−∞"
    text = f"{size:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def format_number(number: Number) -> str:
    """Return value ± standard error (ratio) as plain text; each form sets bold and mark in its own way."""
    if number.value is None:
        return number.missing
    decimals = _decimals(number)
    text = _text(number.value, decimals)
    if number.signed and number.value > 0:
        text = f"+{text}"
    if number.standard_error is not None and math.isfinite(number.value):
        text += f" ± {_text(number.standard_error, decimals)}"
    return text + (f" ({number.ratio:.1f}×)" if number.ratio is not None else "")


# --- CSV ---


def _csv_cells(column: Column, entry: str | Number) -> dict[str, object]:
    if isinstance(entry, str):
        return {column.name: entry}
    cells: dict[str, object] = {column.name: entry.missing if entry.value is None else repr(float(entry.value))}
    if column.measured:
        cells[f"{column.name}, standard error"] = entry.standard_error
        cells[f"{column.name}, n"] = entry.n
    if column.ratio:
        cells[f"{column.name}, {column.ratio}"] = entry.ratio
    return cells


def to_csv(table: Table) -> str:
    """Return one line per row, the heading of its section first, in full precision.

    A value that was not run reads ``not run``, one that the paper does not print is empty. Read it with
    ``pandas.read_csv(path, na_values="not run")``.
    """
    lines = []
    for section in table.sections:
        for row in section.rows:
            line: dict[str, object] = {"section": section.heading}
            for column, entry in zip(table.columns, row, strict=True):
                line |= _csv_cells(column, entry) if column.in_csv else {}
            lines.append(line)
    columns = [column for column in table.columns if column.in_csv]
    names = ["section", *(name for column in columns for name in _csv_cells(column, Number(None)))]
    frame = pandas.DataFrame(lines, columns=names, dtype=object)
    return frame.replace("–", "").to_csv(index=False, lineterminator="\n")


# --- print: Markdown, HTML and LaTeX ---


def _printed_columns(table: Table) -> list[tuple[int, Column]]:
    return [(index, column) for index, column in enumerate(table.columns) if column.printed]


def _broken(entry: str, column: Column) -> list[str]:
    """The lines of a text in a column."""
    if not column.width:
        return [entry]
    return textwrap.wrap(entry, column.width, break_long_words=False, break_on_hyphens=False)


def _markdown_entry(entry: str | Number, column: Column) -> str:
    if isinstance(entry, str):
        return "<br>".join(_broken(entry, column)).replace("|", "\\|")
    text = format_number(entry)
    return (f"**{text}**" if entry.bold else text) + (f"<sup>{entry.mark}</sup>" if entry.mark else "")


def _without_padding(body: str) -> str:
    """A pipe table whose columns are not aligned in the file: with broken lines in a cell they would be very wide."""
    return re.sub(r"-{4,}", "---", re.sub(r" +\|", " |", body))


def to_markdown(table: Table) -> str:
    """Return a heading, the caption, one pipe table per section, and the notes as a list."""
    columns = _printed_columns(table)
    alignment = ["left" if column.label else "right" for _, column in columns]
    parts = [f"# {table.title}", table.caption]
    for section in table.sections:
        rows = [[_markdown_entry(row[index], column) for index, column in columns] for row in section.rows]
        titles = [column.title for _, column in columns]
        body = tabulate(rows, titles, tablefmt="pipe", colalign=alignment, disable_numparse=True)
        if "<br>" in body:
            body = _without_padding(body)
        parts += [f"## {section.heading}", body]
    if table.notes:
        parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


HTML = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
HTML.globals |= {"broken": _broken, "format_number": format_number}
SECTIONS = HTML.from_string("""\
{% macro align(column) %}{% if not column.label %} style="text-align: right;"{% endif %}{% endmacro %}
{% for section in table.sections %}
<h2>{{ section.heading }}</h2>
<table>
<thead>
<tr>{% for _, column in columns %}<th{{ align(column) }}>{{ column.title }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for row in section.rows %}
<tr>
{%- for index, column in columns %}{% set entry = row[index] %}<td{{ align(column) }}>
{%- if entry is string %}{% for line in broken(entry, column) %}{{ "" if loop.first else "<br>"|safe }}{{ line }}
{%- endfor %}
{%- elif entry.bold %}<b>{{ format_number(entry) }}</b>{% else %}{{ format_number(entry) }}{% endif %}
{%- if entry is not string and entry.mark %}<sup>{{ entry.mark }}</sup>{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
{% if table.notes %}
<ul>{% for note in table.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endif %}
""")
PAGE = HTML.from_string("""\
<!doctype html><meta charset="utf-8"><title>{{ table.title }}</title><style>{{ style }}</style>
<h1>{{ table.title }}</h1>
<p>{{ table.caption }}</p>
{{ sections|safe }}
""")
HTML_STYLE = (
    "body { font: 14px sans-serif; margin: 2em } "
    "td, th { padding: 2px 10px; border-bottom: 1px solid #ddd; vertical-align: top } "
    "table { border-collapse: collapse }"
)


def to_html(table: Table) -> str:
    """Return a page of its own, for the report, with the content of the Markdown form."""
    sections = SECTIONS.render(table=table, columns=_printed_columns(table)).strip()
    return PAGE.render(table=table, style=HTML_STYLE, sections=sections)


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "∞": r"$\infty$",
    "§": r"\S", "−": r"$-$", "–": "--", "α": r"$\alpha$", "†": r"$\dagger$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
}  # fmt: skip


LATEX_WIDTH = 92  # letters of \\footnotesize in a line of a page
LATEX_GAP = 2  # between columns, in letters


def _latex_text(text: str) -> str:
    quoted = re.sub(r'"([^"]*)"', r"``\1''", text)
    return "".join(LATEX.get(character, character) for character in quoted)


def _latex_parts(table: Table) -> list[list[int]]:
    """The printed columns in parts that fit on a line; the first one has the labels, with the rows' numbers."""
    widths = {}
    for index, column in _printed_columns(table):
        titles = column.title.partition(" [")
        texts = [titles[0], titles[2], *(_plain(row[index]) for section in table.sections for row in section.rows)]
        widths[index] = max(map(len, texts)) + LATEX_GAP
    labels = [index for index, column in _printed_columns(table) if column.label]
    groups: list[list[int]] = []  # of a column and the paper's beside it
    for index in (index for index in widths if index not in labels):
        if groups and table.columns[index].title == "paper":
            groups[-1].append(index)
        else:
            groups.append([index])
    parts: list[list[int]] = [labels]
    for group in groups:
        if parts[-1] and sum(widths[i] for i in [*parts[-1], *group]) > LATEX_WIDTH:
            parts.append([])
        parts[-1] = [*parts[-1], *group]
    return parts


def _plain(entry: str | Number) -> str:
    return entry if isinstance(entry, str) else format_number(entry) + entry.mark


def _latex_entry(entry: str | Number) -> str:
    if isinstance(entry, str):
        return _latex_text(entry)
    text = _latex_text(format_number(entry))
    return (f"\\textbf{{{text}}}" if entry.bold else text) + (
        f"\\textsuperscript{{{_latex_text(entry.mark)}}}" if entry.mark else ""
    )


def _latex_title(title: str) -> str:
    """A title; the part in square brackets goes on a second line."""
    name, bracket, rest = title.partition(" [")
    if not bracket:
        return _latex_text(title)
    return f"\\shortstack[r]{{{_latex_text(name)}\\\\{{[{_latex_text(rest)}}}}}"


def to_latex(table: Table) -> str:
    """Return a ``table`` environment; a table wider than a line comes in parts with numbered rows. Needs booktabs."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_latex_text(table.caption)}}}",
        f"\\label{{tab:{table.title.lower().removeprefix('table ')}}}",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
    ]
    parts = _latex_parts(table)
    numbered = ["\\#"] if len(parts) > 1 else []
    for part in parts:
        columns = [table.columns[index] for index in part]
        alignment = "r" * len(numbered) + "".join("l" if column.label else "r" for column in columns)
        lines += [
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            " & ".join([*numbered, *(_latex_title(column.title) for column in columns)]) + " \\\\",
        ]
        number = itertools.count(1)
        for section in table.sections:
            heading = f"\\multicolumn{{{len(alignment)}}}{{l}}{{\\emph{{{_latex_text(section.heading)}}}}} \\\\"
            lines += ["\\midrule", heading]
            for row in section.rows:
                texts = [str(next(number)) for _ in numbered] + [_latex_entry(row[index]) for index in part]
                lines.append(" & ".join(texts) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}", "\\par\\smallskip"]
    lines.append("\\raggedright")
    lines += [f"{_latex_text(note)}\\par" for note in table.notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "html": to_html, "tex": to_latex}


def write_table(table: Table, folder: Path, name: str, forms: Iterable[str] = tuple(FORMATS)) -> list[Path]:
    """Write a table in some forms, atomically; unchanged files keep their time. Returns the paths."""
    written = []
    for ending in forms:
        written.append(Path(folder) / f"{name}.{ending}")
        write_atomically(written[-1], FORMATS[ending](table))
    return written
