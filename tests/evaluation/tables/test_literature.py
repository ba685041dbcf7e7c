# SPDX-License-Identifier: Apache-2.0
"""The table of what is published elsewhere: apart from measured numbers, as printed, with source and protocol."""

from __future__ import annotations

from evaluation.published import PublishedReconstruction
from evaluation.tables.formats import to_csv, to_html, to_markdown
from evaluation.tables.literature import build_published_elsewhere


def row(autoencoder, name, source="a <paper>", resolution=256, **values):
    return PublishedReconstruction(
        autoencoder, name, "ImageNet", "val", resolution, None, values, "not stated", source, None
    )


ROWS = [
    row(None, "KL", rfid="0.90"),
    row("sdxl-vae", "SDXL", psnr="26.0"),
    row("sd-vae", "SD-VAE", rfid="0.620", ssim="0.7"),
    row("sd-vae", "SD-VAE", source="another", resolution=512, rfid="0.61"),
]


def test_entries_come_first_in_the_benchmarks_order_and_data_sets_apart():
    table = build_published_elsewhere(["sd-vae", "sdxl-vae"], ROWS)
    assert [(section.heading, [line[0] for line in section.rows]) for section in table.sections] == [
        ("ImageNet val, 256 px", ["sd-vae", "sdxl-vae", "–"]),
        ("ImageNet val, 512 px", ["sd-vae"]),
    ]
    assert "must not be compared" in table.caption


def test_an_entry_that_the_benchmark_does_not_have_is_not_named():
    table = build_published_elsewhere(["sd-vae"], ROWS)
    assert [line[:2] for line in table.sections[0].rows] == [["sd-vae", "SD-VAE"], ["–", "KL"], ["–", "SDXL"]]


def test_numbers_are_shown_as_printed_and_none_is_bold():
    table = build_published_elsewhere(["sd-vae"], ROWS)
    text = to_markdown(table)
    assert "0.620" in text and "26.0 " in text and "**" not in text
    assert "a &lt;paper&gt;" in to_html(table)
    assert to_csv(table).splitlines()[1] == '"ImageNet val, 256 px",sd-vae,SD-VAE,0.62,,0.7,,,,,not stated,a <paper>,'


def test_the_file_of_this_project_makes_a_table():
    table = build_published_elsewhere(["dc-ae-f64c128-in-1.0"])
    headings = [section.heading for section in table.sections]
    assert headings[0] == "ImageNet val, 256 px" and len(headings) == len(set(headings)) == 5
