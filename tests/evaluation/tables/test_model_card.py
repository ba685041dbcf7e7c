# SPDX-License-Identifier: Apache-2.0
"""Model cards: the paper's numbers beside measured ones, and what is special about an autoencoder in the code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcae.autoencoders.loading import load
from dcae.benchmark import Config, Provenance, Record, Value
from evaluation.tables.model_card import TrainedAutoencoder, TrainedPhase, card_text
from evaluation.tables.rows import Result, TableCell

RECIPE = Config().entry("recipes", "dc-ae-three-phase")
PROVENANCE = Provenance(
    created="", version="", git_commit=None, git_dirty=None, command="", config_digest="", code_digest="", inputs={},
    packages={}, python="", platform="", seed=0, wall_seconds=0.0,
)  # fmt: skip


@pytest.fixture
def model():
    entry = load("dc-ae-f32c32", device="meta").entry
    return TrainedAutoencoder(
        entry=entry,
        class_name="AutoencoderDC",
        latents="latent",
        parameters=323_356_460,
        scale=0.3189,
        shift=None,
        phases=[TrainedPhase(entry.name, phase, RECIPE, None) for phase in RECIPE.phases],
        datasets=[Config().entry("datasets", name) for name in RECIPE.datasets],
        seed=0,
        files={"config.json": "c0ffee"},
        benchmark="paper",
        version="0.1.0",
        results=[],
    )


def reconstruction(published_resolution, **values):
    cell = TableCell(
        dataset="imagenet",
        resolution=256,
        autoencoder="dc-ae-f32c32",
        dataset_paper_name="ImageNet",
        autoencoder_paper_name="DC-AE-f32",
        published_dataset="ImageNet",
        published_resolution=published_resolution,
        spatial_compression=32,
        latent_channels=32,
    )
    record = Record(
        kind="reconstruction", number_class="reproduced", cell={}, values=values, protocol={"name": "dc-ae"},
        protocol_fingerprint="0123456789", device={}, provenance=PROVENANCE,
    )  # fmt: skip
    return Result(cell, record)


def test_the_papers_number_stands_beside_a_measured_one(model):
    record = reconstruction(256, rfid=Value(value=0.712, n=50_000), psnr=Value(value=23.9, n=50_000))
    text = card_text(replace(model, results=[record]))
    rows = [[part.strip() for part in line.split("|")] for line in text.splitlines() if line.startswith("| imagenet ")]
    lines = {row[3]: row for row in rows if row[2] == "256"}
    assert lines["rFID ↓"][4:-1] == ["0.71", "50,000", "dc-ae 01234567", "0.69"]
    assert lines["PSNR (dB) ↑"][4:-1] == ["23.90", "50,000", "dc-ae 01234567", "23.85"]
    assert "random feature weights" not in text


def test_no_number_of_the_paper_stands_beside_other_data_or_random_features(model):
    for record in (
        reconstruction(512, rfid=Value(value=0.712, n=8)),
        reconstruction(256, rfid=Value(value=0.712, n=8, random_features=True)),
    ):
        text = card_text(replace(model, results=[record]))
        assert "0.69" not in text and "| paper" not in text
    assert "rFID ↓ (random feature weights)" in text


def test_scale_and_shift_per_channel_and_samples_of_posteriors_are_in_the_code(model):
    text = card_text(replace(model, scale=[0.5, 2.0], shift=0.25, latents="latent_dist.sample()"))
    assert "scale = torch.tensor([0.5, 2.0]).reshape(-1, 1, 1)\nshift = 0.25\n" in text
    assert "latents = (autoencoder.encode(images).latent_dist.sample() - shift) * scale" in text
    assert "autoencoder.decode(latents / scale + shift).sample" in text


def test_every_phase_and_choice_of_the_recipe_is_told(model):
    text = card_text(model)
    for phase in RECIPE.phases:
        assert phase.name in text
    for field in RECIPE.choices:
        assert f"{RECIPE.name}: {field}" in text
    assert "1/RMS of the latents of 4,096 training images" in text


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("Apache-2.0", "license: apache-2.0"), ("a licence of ours", "license: other\nlicense_name")],
)
def test_licences_are_named_as_the_hub_names_them(model, licence, expected):
    assert expected in card_text(replace(model, entry=model.entry.model_copy(update={"licence": licence})))
