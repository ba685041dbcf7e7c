# SPDX-License-Identifier: Apache-2.0
"""The published CSVs against the tables as the paper prints them, and against the ratios that its text claims."""

from __future__ import annotations

import re

import pytest

from dcae.benchmark import Config
from evaluation.published import (
    PUBLISHED_FOLDER,
    RECONSTRUCTION_COLUMNS,
    RECONSTRUCTION_METRICS,
    Published,
    has_published_elsewhere,
    read_published,
    read_published_reconstruction,
)

# As printed, row by row: diffusion model, autoencoder, p, then the numbers in the order of the columns.
TABLE_1 = """
DiT-XL SD-VAE-f8  4 37.42 15.61
DiT-XL SD-VAE-f16 2 36.22 15.17
DiT-XL SD-VAE-f32 1 32.98 12.95
UViT-S SD-VAE-f8  8 125.08 95.93
UViT-S SD-VAE-f16 4 115.32 88.06
UViT-S SD-VAE-f32 2 107.33 76.57
UViT-S DC-AE-f64  1 67.30 35.96
"""
TABLE_2 = """
ImageNet 256 f32c32 8x8x32 2.64 22.13 0.59 0.117 0.69 23.85 0.66 0.082
ImageNet 256 f64c128 4x4x128 26.65 18.07 0.41 0.283 0.81 23.60 0.65 0.087
ImageNet 512 f64c128 8x8x128 16.84 19.49 0.48 0.282 0.22 26.15 0.71 0.080
ImageNet 512 f128c512 4x4x512 100.74 15.90 0.40 0.531 0.23 25.73 0.70 0.084
FFHQ 1024 f64c128 16x16x128 6.62 24.55 0.68 0.237 0.23 31.04 0.83 0.061
FFHQ 1024 f128c512 8x8x512 179.71 18.11 0.63 0.585 0.41 31.18 0.83 0.062
MapillaryVistas 2048 f64c128 32x32x128 7.55 22.37 0.68 0.262 0.36 29.57 0.84 0.075
MapillaryVistas 2048 f128c512 16x16x512 152.09 17.82 0.67 0.594 0.38 29.70 0.84 0.074
"""
TABLE_3 = """
UViT-S Flux-VAE-f8 2 352 2984 3.8 13.8 106.07 84.73
UViT-S SD-VAE-f8 2 352 2991 3.8 13.8 51.96 24.57
UViT-S SD-VAE-f16 2 1550 12881 1.3 4.0 76.86 44.22
UViT-S SD-VAE-f32 1 1551 12883 1.3 4.0 70.23 38.63
UViT-S DC-AE-f32 1 1553 12850 1.3 4.0 46.12 18.08
UViT-S DC-AE-f64 1 6295 53774 0.7 1.5 67.30 35.96
UViT-S DC-AE-f64† 1 6295 53774 0.7 1.5 61.84 30.63
DiT-XL SD-VAE-f8 2 54 424 31.7 56.2 12.03 3.04
DiT-XL DC-AE-f32 1 241 2016 7.8 20.9 9.56 2.84
UViT-H SD-VAE-f8 2 55 351 30.3 54.1 11.04 3.55
UViT-H DC-AE-f32 1 247 1622 8.2 18.6 9.83 2.53
UViT-H DC-AE-f64 1 984 6706 3.5 10.6 13.96 3.01
UViT-H DC-AE-f64† 1 984 6706 3.5 10.6 12.26 2.66
"""
# FFHQ and MJHQ at 1024 px, then Mapillary Vistas at 2048 px, all with DiT-S, layout repaired.
TABLE_4 = """
SD-VAE-f8 2 84 833 14.1 41.2 16.98 48.05 38.19
SD-VAE-f8 4 470 5566 2.5 10.7 23.81 60.94 51.29
DC-AE-f32 1 475 5575 2.5 10.7 13.65 34.35 27.20
DC-AE-f64 1 2085 25259 1.0 3.1 26.88 61.30 53.38
SD-VAE-f8 4 84 810 14.3 41.4 69.50
DC-AE-f64 1 459 5435 2.6 11.0 59.55
"""
TABLE_5 = """
PixArt-α SD-VAE-f8 2 43 312 37.1 60.45 6.3 26.36
PixArt-α DC-AE-f32 1 173 1251 10.4 23.77 6.1 26.41
"""
FIDS = ["fid_without_guidance", "fid_with_guidance"]
RECONSTRUCTION = ["rfid", "psnr", "ssim", "lpips"]
SPEED = ["training_images_per_second", "inference_images_per_second", "latency_ms", "peak_memory_gib"]
COUNTS = {"1": 7 * 2, "2": 8 * 2 * 4, "3": 13 * 6, "4": 4 * (2 * 4 + 3) + 2 * 5, "5": 2 * 6}


@pytest.fixture(scope="module")
def published() -> Published:
    return read_published()


def printed_text(value) -> str:
    return f"{value.value:.{value.decimals}f}"


def lines(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def expect(published, table, columns, numbers, **place):
    found = [published.find(table, column, **place) for column in columns]
    assert None not in found, f"Table {table} lacks a number of {place}"
    assert [printed_text(value) for value in found] == numbers, f"Table {table}, {place}"


@pytest.mark.parametrize(
    ("table", "text", "columns", "dataset"),
    [
        (1, TABLE_1, FIDS, "ImageNet"),
        (3, TABLE_3, SPEED + FIDS, "ImageNet"),
        (5, TABLE_5, [*SPEED, "fid", "clip_score"], "MJHQ"),
    ],
)
def test_tables_with_one_data_set_at_512_px_hold_every_printed_number(published, table, text, columns, dataset):
    for diffusion, autoencoder, patch_size, *numbers in lines(text):
        place = {"dataset": dataset, "resolution": 512, "diffusion": diffusion, "autoencoder": autoencoder}
        expect(published, table, columns, numbers, **place, patch_size=int(patch_size))


def test_table_2_holds_every_printed_number(published):
    for dataset, resolution, latent, shape, *numbers in lines(TABLE_2):
        place = {"dataset": dataset, "resolution": int(resolution)}
        expect(published, 2, RECONSTRUCTION, numbers[:4], autoencoder=f"SD-VAE-{latent}", **place)
        name = "DC-AE-" + latent.partition("c")[0]
        expect(published, 2, RECONSTRUCTION, numbers[4:], autoencoder=name, **place)
        assert published.find(2, "rfid", autoencoder=name, **place).latent_shape == shape


def test_table_4_holds_every_printed_number(published):
    for position, (autoencoder, patch_size, *numbers) in enumerate(lines(TABLE_4)):
        both = position < 4
        place = {"resolution": 1024 if both else 2048, "diffusion": "DiT-S", "autoencoder": autoencoder}
        place["patch_size"] = int(patch_size)
        for dataset in ("FFHQ", "MJHQ") if both else ("MapillaryVistas",):
            expect(published, 4, SPEED, numbers[:4], dataset=dataset, **place)
        if both:
            expect(published, 4, FIDS[:1], numbers[4:5], dataset="FFHQ", **place)
            expect(published, 4, FIDS, numbers[5:], dataset="MJHQ", **place)
        else:
            expect(published, 4, FIDS[:1], numbers[4:], dataset="MapillaryVistas", **place)


def test_figure_5_holds_the_three_ways_to_use_a_gan(published):
    place = {"dataset": "ImageNet", "resolution": 256}
    for how, number in (("without GAN", 3.82), ("with full-model GAN", 0.82), ("with decoder-head GAN", 0.69)):
        found = published.find("figure 5", "rfid", autoencoder=f"f32c32 {how}", **place)
        assert found.value == number
        assert "second-hand" in found.source


def test_the_text_has_the_peak_memory_of_training_at_the_batch_that_is_measured_here(published):
    place = {"dataset": None, "resolution": 1024, "autoencoder": "DC-AE"}
    assert published.find("section 3.2", "full_training_peak_gb", **place).protocol.endswith("at batch 12")
    assert Config().entry("protocols", "autoencoders").phase_batch_size == 12
    assert published.peak_of_phase("full") == 153.98 and published.peak_of_phase("middle") == 67.81


def test_tables_hold_no_other_numbers(published):
    for table, count in COUNTS.items():
        assert sum(value.table == table for value in published) == count
    others = {value.table for value in published} - set(COUNTS)
    assert others == {"figure 2a", "figure 3a", "figure 3b", "figure 5", "readme", "section 3.2"}


def test_the_readme_repeats_the_numbers_of_table_3(published):
    readme = [value for value in published if value.table == "readme"]
    assert len(readme) == 11 * 2
    both = [(value, printed) for value in readme if (printed := published.find(3, value.column, **place(value)))]
    assert len(both) == 5 * 2 and all(value.value == printed.value for value, printed in both)


def place(value) -> dict:
    fields = ("dataset", "resolution", "autoencoder", "diffusion", "patch_size")
    return {field: getattr(value, field) for field in fields}


@pytest.mark.parametrize(
    ("diffusion", "autoencoder", "column", "claimed"),
    [
        ("UViT-H", "DC-AE-f64", "training_images_per_second", "17.9"),
        ("UViT-H", "DC-AE-f64", "inference_images_per_second", "19.1"),
        ("UViT-H", "DC-AE-f32", "training_images_per_second", "4.5"),
        ("UViT-H", "DC-AE-f32", "inference_images_per_second", "4.6"),
        ("DiT-XL", "DC-AE-f32", "training_images_per_second", "4.5"),
        ("DiT-XL", "DC-AE-f32", "inference_images_per_second", "4.8"),
        ("UViT-S", "DC-AE-f64", "training_images_per_second", "17.9"),
        ("UViT-S", "DC-AE-f64", "inference_images_per_second", "18.0"),
    ],
)
def test_ratios_claimed_in_the_text_follow_from_table_3(published, diffusion, autoencoder, column, claimed):
    place = {"dataset": "ImageNet", "resolution": 512, "diffusion": diffusion}
    base = published.find(3, column, autoencoder="SD-VAE-f8", patch_size=2, **place)
    fast = published.find(3, column, autoencoder=autoencoder, patch_size=1, **place)
    assert f"{fast.value / base.value:.1f}" == claimed


@pytest.mark.parametrize(
    ("table", "dataset", "resolution", "diffusion", "base", "fast", "claimed"),
    [
        (4, "FFHQ", 1024, "DiT-S", ("SD-VAE-f8", 2), ("DC-AE-f32", 1), ("5.7", "6.7")),
        (4, "MapillaryVistas", 2048, "DiT-S", ("SD-VAE-f8", 4), ("DC-AE-f64", 1), ("5.5", "6.7")),
        (5, "MJHQ", 512, "PixArt-α", ("SD-VAE-f8", 2), ("DC-AE-f32", 1), ("4.0", "4.0")),
    ],
)
def test_ratios_claimed_for_tables_4_and_5(published, table, dataset, resolution, diffusion, base, fast, claimed):
    place = {"dataset": dataset, "resolution": resolution, "diffusion": diffusion}
    for column, ratio in zip(SPEED[:2], claimed, strict=True):
        slow, quick = (
            published.find(table, column, autoencoder=name, patch_size=patch_size, **place).value
            for name, patch_size in (base, fast)
        )
        assert f"{quick / slow:.1f}" == ratio


def test_fid_gain_claimed_for_uvit_h_holds_with_guidance_only(published):
    place = {"dataset": "ImageNet", "resolution": 512, "diffusion": "UViT-H"}

    def gain(column: str) -> float:
        f8 = published.find(3, column, autoencoder="SD-VAE-f8", patch_size=2, **place)
        return f8.value - published.find(3, column, autoencoder="DC-AE-f64", patch_size=1, **place).value

    assert gain("fid_with_guidance") == pytest.approx(0.54)
    assert gain("fid_without_guidance") < 0


def test_tokens_and_latent_shapes_follow_from_resolution_compression_and_patch_size(published):
    for value in published:
        if value.tokens:
            assert value.tokens == (value.resolution // value.spatial_compression // value.patch_size) ** 2, value.key
        if value.latent_shape:
            side, _, channels = map(int, value.latent_shape.split("x"))
            assert side == value.resolution // value.spatial_compression, value.key
            if "c" in value.autoencoder:
                assert value.autoencoder.endswith(f"c{channels}")


def test_repaired_cells_of_table_4_are_marked(published):
    repaired = {
        (value.autoencoder, value.patch_size)
        for value in published
        if re.match("repaired: autoencoder", value.note or "")
    }
    assert repaired == {("SD-VAE-f8", 4), ("DC-AE-f64", 1)}
    fids = [value for value in published if value.table == "4" and value.column.startswith("fid")]
    assert all("repaired" in value.note for value in fids)


@pytest.mark.parametrize(
    ("table", "column", "place", "note"),
    [
        (1, "fid_with_guidance", ("ImageNet", 512, "UViT-S", "SD-VAE-f8", 8), "public stabilityai/sd-vae-ft-ema"),
        (1, "fid_with_guidance", ("ImageNet", 512, "DiT-XL", "SD-VAE-f16", 2), "number of training steps not stated"),
        (3, "fid_with_guidance", ("ImageNet", 512, "DiT-XL", "DC-AE-f32", 1), "guided by 1.3, its baselines by 1.5"),
        (3, "fid_with_guidance", ("ImageNet", 512, "UViT-H", "SD-VAE-f8", 2), "30 sampling steps"),
        (4, "fid_without_guidance", ("FFHQ", 1024, "DiT-S", "DC-AE-f64", 1), "worse than SD-VAE-f8 p2 and p4"),
        (4, "fid_without_guidance", ("MapillaryVistas", 2048, "DiT-S", "DC-AE-f64", 1), "has no DC-AE-f32 row"),
        (
            5,
            "clip_score",
            ("MJHQ", 512, "PixArt-α", "DC-AE-f32", 1),
            "a submission version reportedly showed DC-AE lower",
        ),
    ],
)
def test_known_caveats_stand_at_the_numbers(published, table, column, place, note):
    names = ("dataset", "resolution", "diffusion", "autoencoder", "patch_size")
    assert note in published.find(table, column, **dict(zip(names, place, strict=True))).note


def test_every_file_is_read_and_names_its_source(published):
    assert {path.stem for path in PUBLISHED_FOLDER.glob("*.csv")} - {"reconstruction"} == {
        *(f"table{i}" for i in range(1, 6)),
        "figures",
        "readme",
        "text",
    }
    for value in published:
        of_the_code = value.table == "readme"
        assert value.source.startswith("mit-han-lab/efficientvit" if of_the_code else "arXiv 2410.10733")


def test_a_broken_line_is_named(tmp_path):
    text = (PUBLISHED_FOLDER / "table1.csv").read_text()
    (tmp_path / "table1.csv").write_text(text.replace("37.42", "37,42 FID"))
    with pytest.raises(ValueError, match=r"table1\.csv"):
        read_published(tmp_path)
    (tmp_path / "table1.csv").write_text(text.replace(",512,", ",many,", 1))
    with pytest.raises(ValueError, match=r"table1\.csv, line 2.*many"):
        read_published(tmp_path)
    (tmp_path / "table1.csv").write_text(text.replace("printed_precision", "digits"))
    with pytest.raises(ValueError, match="expected the columns"):
        read_published(tmp_path)
    (tmp_path / "table1.csv").write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(ValueError, match="two published values"):
        read_published(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected table"):
        read_published(tmp_path)


# --- reconstruction as published by others ---

HEAD = ",".join(RECONSTRUCTION_COLUMNS) + "\n"
LINE = "sdxl-vae,SDXL,ImageNet,val,256,,0.68,26.04,,,,,not stated,a paper,\n"


def test_every_entry_that_a_line_names_is_an_entry_here_and_has_weights_of_others():
    config = Config()
    named = {row.autoencoder for row in read_published_reconstruction()} - {None}
    assert named and all(config.entry("autoencoders", name).pretrained for name in named)


def test_numbers_are_possible_and_keep_their_printed_decimals():
    rows = read_published_reconstruction()
    highest = {"rfid": 10, "psnr": 40, "ssim": 1, "lpips": 1, "psim": 2, "rfdd": 20}
    for row in rows:
        assert row.values and set(row.values) <= set(RECONSTRUCTION_METRICS)
        assert all(0 < float(text) < highest[metric] for metric, text in row.values.items())
    [ft_mse] = [row for row in rows if row.source.startswith("lavinal712") and row.autoencoder == "sd-vae-ft-mse"]
    assert ft_mse.values == {"rfid": "0.692", "psnr": "26.910", "ssim": "0.772", "lpips": "0.130"}


def test_one_autoencoder_has_numbers_that_do_not_agree():
    """The reason for all of this: SD-VAE's rFID on the same data, by source."""
    rows = read_published_reconstruction()
    rfids = {
        float(row.values["rfid"]) for row in rows if row.printed_name.startswith("SD-VAE") and "rfid" in row.values
    }
    assert len(rfids) >= 4 and max(rfids) > 1.2 * min(rfids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", r"expected the columns \['autoencoder'"),
        (HEAD + LINE + LINE, "line 3: line 2 is of the same source and autoencoder"),
        (HEAD + LINE.replace("a paper", ""), "line 2: source is empty"),
        (HEAD + LINE.replace("0.68,26.04", ","), "line 2: no number: give at least one of rfid"),
        (HEAD + LINE.replace("0.68", "o.68"), "line 2: could not convert"),
    ],
)
def test_a_wrong_line_is_named(text, message, tmp_path):
    (tmp_path / "reconstruction.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_published_reconstruction(tmp_path / "reconstruction.csv")


def test_only_released_autoencoders_have_numbers_elsewhere():
    assert has_published_elsewhere(["identity", "flux-vae"])
    assert not has_published_elsewhere(["identity", "sd-vae-f8-demo", "dc-ae-f32c32"])
