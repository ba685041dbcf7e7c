# SPDX-License-Identifier: Apache-2.0
"""A suite's tables: ratios by hand, the paper's beside them, and what is said of values that are not there."""

import csv
import io

import pytest

from dcae.benchmark import Record, Value
from evaluation.figures.efficiency import draw_suite_figures
from evaluation.published import read_published
from evaluation.tables.efficiency import build_suite_tables
from evaluation.tables.efficiency_ratios import base_of, paper_ratio, ratio_to_base
from evaluation.tables.formats import to_csv, to_markdown
from tests.evaluation.synthetic import record as synthetic

PUBLISHED = read_published()
PROTOCOL = {"name": "paper", "precision": "fp16", "training_backend": "eager", "inference_backend": "compile"}


def row(autoencoder: str, patch_size: int, tokens: int, speed: float, diffusion: str = "UViT-H", **fields) -> Record:
    cell = {
        "table": 3, "dataset": "ImageNet", "resolution": 512, "autoencoder": autoencoder.lower(),
        "diffusion": diffusion.lower(), "patch_size": patch_size, "tokens": tokens, "measures": "denoiser",
        "autoencoder_paper_name": autoencoder, "diffusion_paper_name": diffusion, "spatial_compression": 8,
    }  # fmt: skip
    values = {
        "training_images_per_second": Value(value=speed, n=3, unit="images/s", repeats=[speed, speed, speed]),
        "peak_memory_gib": Value(value=40, n=1, unit="GiB", extrapolated=True),
        "latency_ms": Value(value=2, n=3, unit="ms", repeats=[2, 2, 2.2]),
    }
    like = synthetic("efficiency", cell, values)
    return like.model_copy(update={"protocol": PROTOCOL, "conditions": {"training_batch_size": 256}} | fields)


RECORDS = [row("SD-VAE-f8", 2, 1024, 50), row("DC-AE-f32", 1, 256, 225), row("DC-AE-f64", 1, 64, 800)]


def test_ratios_are_those_to_the_f8_row_of_the_same_model():
    other = row("SD-VAE-f8", 2, 1024, 10, diffusion="UViT-S")
    name = "training_images_per_second"
    assert base_of(RECORDS[2], [*RECORDS, other]) is RECORDS[0]
    assert ratio_to_base(RECORDS[2], name, [other, *RECORDS]) == 16
    assert ratio_to_base(RECORDS[2], "inference_images_per_second", RECORDS) is None
    assert paper_ratio(RECORDS[2], name, RECORDS, PUBLISHED) == pytest.approx(984 / 55)
    assert ratio_to_base(RECORDS[2], name, RECORDS[1:]) is None


def test_the_table_has_measured_and_printed_numbers_and_both_ratios():
    table = build_suite_tables(RECORDS, PUBLISHED)["paper-denoiser"]
    line = list(csv.DictReader(io.StringIO(to_csv(table))))[2]
    assert float(line["Training (images/s)"]) == 800
    assert float(line["Training (images/s), ratio to SD-VAE-f8"]) == 16
    assert float(line["Training (images/s), paper"]) == 984
    assert float(line["Training (images/s), paper, ratio to SD-VAE-f8"]) == pytest.approx(17.89, abs=0.01)
    text = to_markdown(table)
    assert "984 (17.9×)" in text
    assert "<sup>x</sup>" in text and "x: extrapolated linearly" in text
    assert "<sup>u</sup>" in text and "u: repeats of this value differ by more than 5%" in text
    assert "r: not counted" not in text


def test_reasons_stand_in_place_of_values():
    full = row("SD-VAE-f8", 2, 1024, 50, values={}, excluded={"training_images_per_second": "needs more than 79.6 GiB"})
    unequal = row("DC-AE-f64", 1, 64, 1, values={}, excluded={"latency_ms": "outputs of tensorrt differ from eager"})
    why = {"inference_images_per_second": "failed: RuntimeError: out of luck, with 3 GiB left"}
    failed = row("DC-AE-f32", 1, 256, 1, values={}, excluded=why)
    text = to_markdown(build_suite_tables([full, unequal, failed], PUBLISHED)["paper-denoiser"])
    assert "needs more than 79.6 GiB" in text
    assert "failed (e)" in text and "e: could not be measured" in text
    assert "refused (r)" in text and "r: not counted" in text


def test_records_of_several_devices_are_no_table():
    with pytest.raises(ValueError, match="several devices"):
        build_suite_tables([RECORDS[0], RECORDS[1].model_copy(update={"device": {"name": "Other GPU"}})], PUBLISHED)


def test_phases_stand_beside_the_papers_memory():
    cell = {"autoencoder": "dc-ae", "resolution": 1024, "spatial_compression": 64, "latent_channels": 128}
    values = {"full_training_peak_gb": Value(value=120, n=1), "middle_training_peak_gb": Value(value=40, n=1),
              "full_to_middle": Value(value=3, n=1)}  # fmt: skip
    like = row("SD-VAE-f8", 2, 1024, 1)
    phases = like.model_copy(
        update={"cell": cell | {"measures": "phases"}, "values": values, "protocol": PROTOCOL | {"phase_batch_size": 8}}
    )
    text = to_markdown(build_suite_tables([phases], PUBLISHED)["paper-phases"])
    assert all(number in text for number in ("120.00", "40.00", "3.00", "153.98", "67.81", "2.27"))


def test_the_figure_is_drawn_of_what_is_there(tmp_path):
    png, pdf = draw_suite_figures(RECORDS, PUBLISHED, tmp_path)
    assert png.stat().st_size > 5000 and pdf.stat().st_size > 5000
    assert draw_suite_figures([], PUBLISHED, tmp_path) == []
    assert len(draw_suite_figures(RECORDS[1:], PUBLISHED, tmp_path)) == 2  # without a row to compare with
