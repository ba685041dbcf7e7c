# SPDX-License-Identifier: Apache-2.0
"""The table of latents: a row for each autoencoder, and the reason where a value is missing."""

from __future__ import annotations

import io

import pandas
import pytest

from evaluation.quality.latent_diagnostics import NOISES
from evaluation.tables import metrics
from evaluation.tables.formats import to_csv, to_markdown
from evaluation.tables.latents import build_latents
from tests.evaluation import synthetic


def test_each_autoencoder_has_a_row_with_its_diagnostics():
    table = build_latents(synthetic.demo_records(random_features=False), "mine")
    assert [section.heading for section in table.sections] == [
        "scenes at 64 px", "scenes at 128 px", "photographs at 128 px",
    ]  # fmt: skip
    frame = pandas.read_csv(io.StringIO(to_csv(table)))
    row = frame[frame["Autoencoder"] == "dc-ae-f32-demo (DC-AE-f32)"].iloc[0]
    assert row["Effective rank"] == pytest.approx(32 * (1 - 0.16 / 2))
    assert row["PSNR (dB), noise 0"] - row["PSNR (dB), noise 0.5"] == pytest.approx(5)
    assert not {"identity", "blur", "mean-colour"} & set(frame["Autoencoder"])


def test_values_that_cannot_be_had_are_counted_with_the_reason():
    records = [
        synthetic.changed(each, excluded={"latent_high_frequencies": "too small"})
        for each in synthetic.demo_records()
        if each.cell.spatial_compression == 64
    ]
    table = build_latents(records)
    assert "Left out in 15 cells: latent_high_frequencies: too small." in table.notes
    assert "rFID, noise 0.1 ↓ [random features]" in to_markdown(table).replace("\n", " ")


def test_the_noises_are_those_that_are_measured():
    assert tuple(f"{noise:g}" for noise in (0.0, *NOISES)) == metrics.NOISES
