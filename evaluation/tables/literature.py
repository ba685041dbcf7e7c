# SPDX-License-Identifier: Apache-2.0
"""The table of published reconstruction numbers of released autoencoders, by dataset and source."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.published import (
    RECONSTRUCTION_METRICS,
    PublishedReconstruction,
    read_published_reconstruction,
)
from evaluation.tables.formats import Column, Number, Section, Table

TITLES = {
    "rfid": "rFID ↓", "psnr": "PSNR (dB) ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "psim": "PSIM ↓", "rfdd": "rFDD ↓",
}  # fmt: skip
CAPTION = (
    "Reconstruction as published elsewhere, each line by its source's own protocol; nothing here was measured by this "
    "project. Numbers of different sources must not be compared, with each other or with measured ones: crop, resize, "
    "rounding, sampling of posteriors, number of images and networks differ, and move rFID by half of its value."
)


def build_published_elsewhere(
    autoencoders: Iterable[str], rows: Iterable[PublishedReconstruction] | None = None
) -> Table:
    """Build a section for each dataset and resolution; entries of the benchmark first, then autoencoders without one.

    Args:
        autoencoders: names of the benchmark's entries, in its order.
        rows: by default those of ``config/published/reconstruction.csv``.
    """
    rows = list(read_published_reconstruction() if rows is None else rows)
    names = list(autoencoders)
    sections: dict[str, list[PublishedReconstruction]] = {}
    for row in rows:
        sections.setdefault(f"{row.dataset} {row.split}, {row.resolution} px", []).append(row)
    columns = [
        Column("Entry", "Entry", label=True),
        Column("Printed name", "Printed name", label=True),
        *(Column(name, TITLES[name]) for name in RECONSTRUCTION_METRICS),
        Column("N", "N"),
        Column("Protocol", "Protocol", label=True, width=36),
        Column("Source", "Source", label=True, width=36),
        Column("Note", "Note", label=True, width=36),
    ]

    def order(row: PublishedReconstruction) -> int:
        return names.index(row.autoencoder) if row.autoencoder in names else len(names)

    found = [
        Section(heading, [_entries(row, names) for row in sorted(inside, key=order)])
        for heading, inside in sections.items()
    ]
    notes = ["Entry: the one of this benchmark with the same weights; – where there is none, or the source is unclear."]
    return Table("Published elsewhere", CAPTION, columns, found, notes)


def _entries(row: PublishedReconstruction, names: list[str]) -> list[str | Number]:
    numbers = [_number(row.values.get(name)) for name in RECONSTRUCTION_METRICS]
    entry = row.autoencoder if row.autoencoder in names else "–"
    images = "–" if row.images is None else str(row.images)
    return [entry, row.printed_name, *numbers, images, row.protocol, row.source, row.note or "–"]


def _number(text: str | None) -> Number:
    """A number with the decimals that it is printed with."""
    if text is None:
        return Number(None, missing="–")
    return Number(float(text), len(text.partition(".")[2]), printed=True)
