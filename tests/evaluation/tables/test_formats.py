# SPDX-License-Identifier: Apache-2.0
"""Numbers as text, and tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import io
import math

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.tables.formats import Column, Number, Section, Table, format_number, to_csv, to_latex, to_markdown


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(23.854, 2), "23.85"),
        (Number(23.854, 2, standard_error=0.123), "23.85 ± 0.12"),
        (Number(23.854, 2, standard_error=0.0042), "23.854 ± 0.004"),
        (Number(0.0123, 2), "0.012"),
        (Number(0.7, 1, printed=True), "0.7"),
        (Number(0.7, 1), "0.70"),
        (Number(1553.2, 0, standard_error=12.4, ratio=4.41), "1553 ± 12 (4.4×)"),
        (Number(-0.25, 2), "−0.25"),
        (Number(0.0, 2, standard_error=0.0), "0.00 ± 0.00"),
        (Number(3.1e-9, 2), "0.00"),
        (Number(101.0, 0, standard_error=1e-12), "101 ± 0"),
        (Number(-4e-15, 2, standard_error=4e-14), "0.00 ± 0.00"),
        (Number(math.inf, 2), "∞"),
        (Number(math.nan, 2), "nan"),
        (Number(None), "not run"),
        (Number(None, missing="–"), "–"),
    ],
)
def test_numbers_read_as_expected(number, text):
    assert format_number(number) == text


@given(
    value=st.floats(-1e6, 1e6, allow_subnormal=False),
    error=st.one_of(st.none(), st.floats(1e-12, 1e4)),
    decimals=st.integers(0, 4),
)
def test_a_number_reads_back_within_half_a_digit_of_its_text(value, error, decimals):
    text = format_number(Number(value, decimals, standard_error=error)).split(" ")[0].replace("−", "-")
    # Half a unit of the last decimal asked for, but for the binary representation of the text.
    assert abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9
    # Never read as zero, and one significant digit at the least, but for rounding errors.
    assert abs(float(text) - value) <= 0.5 * abs(value) or abs(value) < 10.0 ** -(decimals + 3)


@pytest.fixture
def table() -> Table:
    columns = [
        Column("Name", "Name", label=True),
        Column("Hidden", "Hidden", printed=False),
        Column("In print", "In print", in_csv=False),
        Column("rFID [random features]", "rFID ↓ [random features]", measured=True, ratio="ratio"),
        Column("rFID, paper", "paper"),
    ]
    rows = [
        ["a_1 & b", "h", "p", Number(1.25, 2, standard_error=0.1, n=64, ratio=2.0, bold=True, mark="a"), Number(0.69)],
        ["b|c", "–", "p", Number(None), Number(None, missing="–")],
    ]
    return Table("Table 2", "A caption with 50 %.", columns, [Section("Here", rows)], ["a: a note."])


def test_csv_keeps_full_precision_and_says_what_was_not_run(table):
    frame = pandas.read_csv(io.StringIO(to_csv(table)), na_values="not run", keep_default_na=True)
    name = "rFID [random features]"
    assert list(frame.columns) == [
        "section", "Name", "Hidden", name, f"{name}, standard error", f"{name}, n", f"{name}, ratio", "rFID, paper",
    ]  # fmt: skip
    assert frame[name][0] == 1.25
    assert frame[f"{name}, n"][0] == 64
    assert math.isnan(frame[name][1])
    assert "not run" in to_csv(table)
    assert to_csv(table).splitlines()[2] == "Here,b|c,,not run,,,,"


def test_csv_keeps_infinity(table):
    table.sections[0].rows[0][3] = Number(math.inf, 2)
    frame = pandas.read_csv(io.StringIO(to_csv(table)), na_values="not run")
    assert frame["rFID [random features]"][0] == math.inf


def test_markdown_sets_bold_marks_and_escapes_pipes(table):
    text = to_markdown(table)
    assert "**1.25 ± 0.10 (2.0×)**<sup>a</sup>" in text
    assert "b\\|c" in text
    assert "Hidden" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "- a: a note." in text


def test_latex_escapes_and_has_as_many_cells_as_columns(table):
    text = to_latex(table)
    assert "a\\_1 \\& b" in text
    assert "50 \\%" in text
    assert "\\textbf{1.25 $\\pm$ 0.10 (2.0$\\times$)}\\textsuperscript{a}" in text
    assert "\\begin{tabular}{lrrr}" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.replace("\\&", "").count("&") for line in rows} == {3}
    for command in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert command in text
    assert text.isascii()


def test_a_wide_latex_table_comes_in_parts_that_fit_on_a_line():
    columns = [
        Column("Name", "Name", label=True),
        *(Column(f"metric {i}", "paper" if i % 2 else f"metric {i} of many") for i in range(12)),
    ]
    rows = [[f"autoencoder {j}", *(Number(i + j / 10, 2, standard_error=0.01) for i in range(12))] for j in range(3)]
    text = to_latex(Table("Table 9", 'Columns "paper": as printed.', columns, [Section("Here", rows)], ["A note."]))
    assert "resizebox" not in text and "``paper''" in text
    parts = text.split("\\begin{tabular}")[1:]
    assert len(parts) > 1
    heads = [part.split("\\toprule")[1].split("\\\\")[0] for part in parts]
    assert all(head.strip().startswith(r"\# & ") for head in heads)
    assert not any(head.strip().startswith(r"\# & paper") for head in heads)
    titles = [title for head in heads for title in head.strip().split(" & ")[1:]]
    assert titles == [column.title for column in columns]
    for head, part in zip(heads, parts, strict=True):
        assert len(head) < 120
        assert [line.split(" & ")[0] for line in part.splitlines() if line[:1].isdigit()] == ["1", "2", "3"]
