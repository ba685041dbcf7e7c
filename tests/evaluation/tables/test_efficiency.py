# SPDX-License-Identifier: Apache-2.0
"""A suite's tables: ratios by hand, the paper's beside them, and the reasons for missing values."""

import csv
import io

import pytest

from dcae.benchmark import Value
from evaluation.figures.efficiency import draw_suite_figures, figure_ratios
from evaluation.published import read_published
from evaluation.tables.efficiency import (
    INFERENCE_SPEED,
    TRAINING_SPEED,
    build_suite_tables,
    is_base,
    paper_speed,
    rows_of,
)
from evaluation.tables.formats import to_csv, to_markdown
from evaluation.tables.numbers import base_of, ratio_to_base
from evaluation.tables.rows import Result, Row
from tests.evaluation import synthetic

PUBLISHED = read_published()
PROTOCOL = {"name": "paper", "precision": "fp16", "training_backend": "eager", "inference_backend": "compile"}


def result(autoencoder: str, patch_size: int, tokens: int, speed: float, diffusion: str = "UViT-H", **fields) -> Result:
    cell = {
        "tables": (3,), "dataset": "ImageNet", "resolution": 512, "autoencoder": autoencoder.lower(),
        "diffusion": diffusion.lower(), "patch_size": patch_size, "tokens": tokens, "measures": "denoiser",
        "autoencoder_paper_name": autoencoder, "diffusion_paper_name": diffusion, "spatial_compression": 8,
        "published_dataset": "ImageNet", "published_resolution": 512,
    }  # fmt: skip
    values = {
        "training_images_per_second": Value(value=speed, n=3, unit="images/s", repeats=[speed, speed, speed]),
        "peak_memory_gib": Value(value=40, n=1, unit="GiB", extrapolated=True),
        "latency_ms": Value(value=2, n=3, unit="ms", repeats=[2, 2, 2.2]),
    }
    like = synthetic.result("efficiency", cell, values)
    return synthetic.changed(like, **{"protocol": PROTOCOL, "conditions": {"training_batch_size": 256}} | fields)


RESULTS = [result("SD-VAE-f8", 2, 1024, 50), result("DC-AE-f32", 1, 256, 225), result("DC-AE-f64", 1, 64, 800)]


def bases(rows: list[Row]) -> list[Row]:
    return [row for row in rows if is_base(row)]


def test_ratios_are_those_to_the_f8_row_of_the_same_model():
    other = result("SD-VAE-f8", 2, 1024, 10, diffusion="UViT-S")
    rows, with_other = rows_of(RESULTS), rows_of([other, *RESULTS])
    assert base_of(rows[2], bases(with_other)) == rows[0]
    assert ratio_to_base(rows[2], TRAINING_SPEED, bases(with_other)) == 16
    assert ratio_to_base(rows[2], INFERENCE_SPEED, bases(rows)) is None
    assert paper_speed(rows[2], TRAINING_SPEED, bases(rows), PUBLISHED).ratio == pytest.approx(984 / 55)
    assert ratio_to_base(rows[2], TRAINING_SPEED, bases(rows[1:])) is None
    assert paper_speed(rows[2], TRAINING_SPEED, bases(rows[1:]), PUBLISHED).ratio is None


def test_the_base_is_the_f8_row_with_the_most_tokens():
    """At 2048 px the paper has p4 alone; where it has p2, too, that is the base."""
    coarse = result("SD-VAE-f8", 4, 256, 25)
    rows = rows_of([coarse, *RESULTS])
    assert ratio_to_base(rows[3], TRAINING_SPEED, bases(rows)) == 16
    assert ratio_to_base(rows[3], TRAINING_SPEED, bases(rows[:1])) == 32


def test_the_table_has_measured_and_printed_numbers_and_both_ratios():
    table = build_suite_tables(RESULTS, PUBLISHED)["paper-denoiser"]
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
    full = result(
        "SD-VAE-f8", 2, 1024, 50, values={}, excluded={"training_images_per_second": "needs more than 79.6 GiB"}
    )
    unequal = result("DC-AE-f64", 1, 64, 1, values={}, excluded={"latency_ms": "outputs of tensorrt differ from eager"})
    why = {"inference_images_per_second": "failed: RuntimeError: out of luck, with 3 GiB left"}
    failed = result("DC-AE-f32", 1, 256, 1, values={}, excluded=why)
    text = to_markdown(build_suite_tables([full, unequal, failed], PUBLISHED)["paper-denoiser"])
    assert "needs more than 79.6 GiB" in text
    assert "failed (e)" in text and "e: could not be measured" in text
    assert "refused (r)" in text and "r: not counted" in text


def test_records_of_several_devices_are_no_table():
    with pytest.raises(ValueError, match="several devices"):
        build_suite_tables([RESULTS[0], synthetic.changed(RESULTS[1], device={"name": "Other GPU"})], PUBLISHED)


def test_phases_stand_beside_the_papers_memory():
    cell = {"dataset": None, "autoencoder": "dc-ae", "resolution": 1024, "spatial_compression": 64,
            "latent_channels": 128, "measures": "phases", "tables": ()}  # fmt: skip
    values = {"full_training_peak_gb": Value(value=120, n=1), "middle_training_peak_gb": Value(value=40, n=1),
              "full_to_middle": Value(value=3, n=1)}  # fmt: skip
    phases = synthetic.result("efficiency", cell, values, protocol=PROTOCOL | {"phase_batch_size": 8})
    text = to_markdown(build_suite_tables([phases], PUBLISHED)["paper-phases"])
    assert all(number in text for number in ("120.00", "40.00", "3.00", "153.98", "67.81", "2.27"))


def test_values_of_an_older_protocol_of_the_name_are_marked_and_explained(tmp_path):
    old = synthetic.changed(RESULTS[2], protocol_fingerprint="old", protocol=PROTOCOL | {"precision": "bf16"})
    table = build_suite_tables([*RESULTS[:2], old], PUBLISHED)["paper-denoiser"]
    told = "a: another efficiency protocol than the unmarked values, not comparable: precision bf16 instead of fp16."
    assert told in table.notes
    assert "800.0 (16.0×)<sup>a</sup>" in to_markdown(table)
    assert not any("not comparable" in note for note in build_suite_tables(RESULTS, PUBLISHED)["paper-denoiser"].notes)
    figure = figure_ratios(rows_of([*RESULTS[:2], old]), PUBLISHED)
    texts = [each.get_text() for each in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert "a" in texts and any("not comparable" in text for text in texts)


def test_the_figure_is_drawn_of_what_is_there(tmp_path):
    png, pdf = draw_suite_figures(RESULTS, PUBLISHED, tmp_path)
    assert png.stat().st_size > 5000 and pdf.stat().st_size > 5000
    assert draw_suite_figures([], PUBLISHED, tmp_path) == []
    assert len(draw_suite_figures(RESULTS[1:], PUBLISHED, tmp_path)) == 2  # without a row to compare with
