# SPDX-License-Identifier: Apache-2.0
"""How many times as fast as on SD-VAE-f8 a diffusion model is: here, and in the paper's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dcae.benchmark.record import Record
from evaluation.published import Published, PublishedValue


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
