# SPDX-License-Identifier: Apache-2.0
"""The table of choices: one row for each value that was chosen, readable also where values are long."""

from __future__ import annotations

import io
import re

import pandas

from evaluation.tables.choices import Choice, build_choices, value_text
from evaluation.tables.formats import to_csv, to_html, to_markdown, write_table
from evaluation.tables.registry import TABLES

OPTIMISER = {"learning_rate": 5.4e-5, "betas": [0.5, 0.9]}
LONG = (
    "no weight is published; 1, with errors as means over elements (latent diffusion sums them,\n"
    "so that its learning rates do not carry over)"
)
CHOICES = [
    Choice("recipes", "three-phase", "phases.first.steps", 400000, "no step count is published"),
    Choice("recipes", "three-phase", "phases.last.losses.gan.optimiser", OPTIMISER, "as the autoencoder's"),
    Choice("recipes", "no-gan", "phases.first.steps", 400000, "no step count is published"),
    Choice("recipes", "no-gan", "phases.first.losses.l1", 1.0, LONG),
    Choice("recipes", "short", "phases.first.steps", 10, "no step count is published"),
    Choice("autoencoders", "wide", "*", None, "not of the paper"),
]


def frame(choices) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(to_csv(build_choices(choices))))


def test_entries_that_share_a_choice_share_its_row():
    data = frame(CHOICES)
    steps = data[data["Field"] == "phases.first.steps"].set_index("Value")["Entry"]
    assert steps.to_dict() == {"400000": "three-phase, no-gan", "10": "short"}


def test_sections_are_the_kinds_of_entries_that_chose():
    assert [section.heading for section in build_choices(CHOICES).sections] == ["Autoencoders", "Recipes"]


def test_a_choice_of_the_whole_entry_has_no_value():
    row = frame(CHOICES).set_index("Entry").loc["wide"]
    assert row["Field"] == "the whole entry"
    assert pandas.isna(row["Value"])


def test_values_read_as_in_an_entry():
    assert value_text(OPTIMISER) == "{learning_rate: 5.4e-05, betas: [0.5, 0.9]}"
    assert [value_text(value) for value in (True, None, "bf16", [1, 2], 1.0)] == [
        "true",
        "null",
        "bf16",
        "[1, 2]",
        "1.0",
    ]


def test_of_a_mapping_that_another_entry_chose_only_what_differs_is_shown():
    wide, deep = {"widths": [8, 16], "depths": [1, 2]}, {"widths": [8, 16], "depths": [3, 2]}
    choices = [
        Choice("autoencoders", name, "stages", value, "tiny")
        for name, value in (("one", wide), ("two", deep), ("three", wide), ("four", {"widths": [8]}))
    ]
    assert frame(choices).set_index("Entry")["Value"].to_dict() == {
        "one, three": "{widths: [8, 16], depths: [1, 2]}",
        "two": "as one, but {depths: [3, 2]}",
        "four": "{widths: [8]}",
    }


def test_long_reasons_are_broken_in_print_and_whole_in_csv():
    reason = " ".join(LONG.split())
    assert reason in set(frame(CHOICES)["Reason"])
    for text in (to_markdown(build_choices(CHOICES)), to_html(build_choices(CHOICES))):
        lines = re.search(r"no weight is published.*?carry over\)", text)[0].split("<br>")
        assert " ".join(lines) == reason
        assert len(lines) > 1 and max(map(len, lines)) <= 60
    markdown = [line for line in to_markdown(build_choices(CHOICES)).splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in markdown}) == 1


def test_without_choices_the_table_says_so():
    table = build_choices([])
    assert table.notes == ["No entry marks a value as chosen."]
    assert "No entry" in to_markdown(table)
    assert to_csv(table).startswith("section,Entry,Field,Value,Reason")


def test_it_is_written_without_latex(tmp_path):
    paths = write_table(build_choices(CHOICES), tmp_path, "choices", TABLES["choices"].forms)
    assert [path.name for path in paths] == ["choices.csv", "choices.md", "choices.html"]
