# SPDX-License-Identifier: Apache-2.0
"""Figures from synthetic records: what is drawn, what is said where nothing is, and that files repeat to the byte."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import rankdata

from evaluation.figures.figure2 import figure_2a, figure_2b, figure_2c
from evaluation.figures.figure3 import figure_3a, figure_3b
from evaluation.figures.figure5 import figure_5
from evaluation.figures.registry import FIGURES, draw_figure, draw_figures
from evaluation.figures.samples import figure_generation_samples, figure_reconstruction_samples
from evaluation.figures.style import COLOURS, Line, draw, label_ends, new_figure, save_figure, styled
from evaluation.published import read_published
from tests.evaluation import synthetic

SAMPLE_FIGURES = ("reconstruction_samples", "generation_samples")
DRAWN_FROM_RECORDS = [name for name in FIGURES if name not in SAMPLE_FIGURES]


@pytest.fixture(scope="module")
def published():
    return read_published()


@pytest.fixture
def records():
    return synthetic.demo_records()


@pytest.fixture
def ablations():
    return synthetic.ablation_records()


def records_for(figure: str, random_features: bool = True):
    """A benchmark that has what a figure shows."""
    make = synthetic.ablation_records if figure == "figure5" else synthetic.demo_records
    return make(random_features)


def texts(figure: Figure) -> list[str]:
    """Every text of a figure, titles, labels, ticks and names of lines."""
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text for text in (artist.get_text() for artist in found) if text]


def panels(figure: Figure) -> dict[str, object]:
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def curve(axis, colour: str) -> tuple[list[float], list[float]]:
    """Points of the lines of a colour."""
    found = [line for line in axis.get_lines() if line.get_color() == COLOURS[colour] and line.get_marker() != "_"]
    points = [point for line in found for point in zip(*line.get_data(), strict=True)]
    return [x for x, _ in points], [y for _, y in points]


def value_of(records, kind, autoencoder, dataset, resolution, metric, patch_size=None):
    for record in records:
        cell = record.cell
        if (record.kind, cell.autoencoder, cell.dataset, cell.resolution) == (
            kind, autoencoder, dataset, resolution,
        ) and cell.patch_size == patch_size:  # fmt: skip
            return record.values[metric].value
    raise LookupError(autoencoder)


# --- Figure 2 ---


def test_figure_2a_shows_each_family_at_the_lowest_resolution(records, published):
    axes = panels(figure_2a(records, published))
    assert list(axes) == ["paper: ImageNet 256 px", "here: scenes 64 px", "here: photographs 128 px"]
    x, y = curve(axes["here: scenes 64 px"], "vermillion")
    assert x == [8, 32, 64]
    assert y[1] == value_of(records, "reconstruction", "sd-vae-f32-demo", "scenes", 64, "rfid")
    x, y = curve(axes["here: scenes 64 px"], "blue")
    assert x == [32, 64]  # without the ablations
    assert y[1] == value_of(records, "reconstruction", "dc-ae-f64-demo", "scenes", 64, "rfid")


def test_a_further_shape_of_one_f_is_a_point_beside_the_line_of_figure_2a(records, published):
    at_f64 = next(r for r in records if r.kind == "reconstruction" and r.cell.autoencoder == "dc-ae-f64-demo")
    thinner = synthetic.elsewhere(at_f64, autoencoder="thinner", latent_channels=at_f64.cell.latent_channels // 2)
    figure = figure_2a([*records, thinner], published)
    axis = panels(figure)[f"here: {at_f64.cell.dataset} {at_f64.cell.resolution} px"]
    lines = [line for line in axis.get_lines() if line.get_color() == COLOURS["blue"] and line.get_marker() == "o"]
    assert [(list(line.get_xdata()), line.get_markerfacecolor()) for line in lines] == [
        ([32, 64], COLOURS["blue"]),
        ([64], "white"),
    ]
    assert f"c{thinner.cell.latent_channels}" in texts(figure)


def test_figure_2a_shows_the_paper_in_a_panel_of_its_own(published):
    axis = panels(figure_2a([], published))["paper: ImageNet 256 px"]
    assert curve(axis, "vermillion") == ([8, 32, 64], [0.90, 2.64, 28.3])  # Figure 2a's own; Table 2 has 26.65
    assert curve(axis, "blue") == ([32, 64], [0.69, 0.81])


def test_random_features_are_named_on_the_axes(published):
    for name in DRAWN_FROM_RECORDS:
        assert "[random features]" in " ".join(texts(draw_figure(name, records_for(name, True), published, None)))
        assert "[random features]" not in " ".join(texts(draw_figure(name, records_for(name, False), published, None)))


def test_a_new_autoencoder_is_named_in_figure_2(published):
    mine = synthetic.autoencoder("mine", 16, 16, None, kind="python", shortcuts=None, high=None)
    cell = {**synthetic.generation_cell("uvit-demo", "UViT-S", "sd-vae-f8-demo", 2), **mine, "tokens": 16}
    records = [*synthetic.demo_records(), synthetic.reconstruction("scenes", 64, mine, 0.9)]
    records += synthetic.generation(cell)
    for drawing in (figure_2a, figure_2b, figure_2c):
        assert "mine" in texts(drawing(records, published))


def test_figure_2b_compares_equal_tokens_only(records, published):
    axes = panels(figure_2b(records, published))
    assert set(axes) == {
        "paper: DiT-XL, 256 tokens",
        "paper: UViT-S, 64 tokens",
        "here: uvit-demo, 16 tokens",
        "here: dit-demo, 16 tokens",
    }
    ticks = [tick.get_text() for tick in axes["here: uvit-demo, 16 tokens"].get_xticklabels()]
    assert ticks == ["f8 p4", "f32 p1"]
    _, y = curve(axes["here: uvit-demo, 16 tokens"], "blue")
    name = "fid_without_guidance"
    assert y[0] == value_of(records, "generation", "dc-ae-f32-demo", "scenes", 128, name, patch_size=1)


def test_figure_2b_takes_the_missing_row_of_dit_xl_from_table_3(published):
    axis = panels(figure_2b([], published))["paper: DiT-XL, 256 tokens"]
    assert curve(axis, "blue")[1] == [9.56, 2.84]


def test_figure_2c_shows_fid_over_throughput(records, published):
    axes = panels(figure_2c(records, published))
    assert curve(axes["paper: UViT-H"], "blue") == ([1622, 6706], [2.53, 3.01])
    name = ("dit-demo", "dc-ae-f32-demo")
    measured = {r.kind: r.values for r in records if (r.cell.diffusion, r.cell.autoencoder) == name}
    x, y = curve(axes["here: dit-demo"], "blue")
    assert x == [measured["efficiency"]["inference_images_per_second"].value]
    assert y == [measured["generation"]["fid_with_guidance"].value]


def without_guidance(records, diffusion: str):
    """The records as they are of a model that was sampled at guidance scale 1."""
    return [
        synthetic.changed(r, values={k: v for k, v in r.values.items() if "with_guidance" not in k})
        if r.cell.diffusion == diffusion
        else r
        for r in records
    ]


def test_an_unguided_fid_is_never_drawn_as_a_guided_one(records, published):
    unguided = without_guidance(records, "uvit-demo")
    assert len(unguided) == len(records)
    names = [f"fid_{how}_guidance" for how in ("without", "with")]
    both = [value_of(records, "generation", "dc-ae-f32-demo", "scenes", 128, name, patch_size=1) for name in names]
    for drawn, expected in ((records, both), (unguided, both[:1])):
        axis = panels(figure_2b(drawn, published))["here: uvit-demo, 16 tokens"]
        assert curve(axis, "blue")[1] == expected
    axes = panels(figure_2c(unguided, published))
    titles = {title.replace("\n", " ") for title in axes}
    assert {"here: uvit-demo, w/o guidance", "here: dit-demo"} <= titles and "here: uvit-demo" not in titles


# --- Figure 3 ---


def test_models_on_one_autoencoder_alone_have_no_panel_in_figure_2c(records, published):
    alone = [
        synthetic.elsewhere(record, diffusion="alone")
        for record in records
        if record.kind in ("generation", "efficiency")
        and (record.cell.diffusion, record.cell.autoencoder) == ("dit-demo", "dc-ae-f32-demo")
    ]
    assert "here: alone" not in panels(figure_2c([*records, *alone], published))
    assert "here: alone" in panels(figure_2c(alone, published))  # there is nothing else to show


def test_panels_of_figure_2c_wrap_so_that_their_names_have_room(records, published):
    others = [
        synthetic.elsewhere(record, diffusion=f"other-{number}")
        for number in range(4)
        for record in records
        if record.kind in ("generation", "efficiency")
    ]
    figure = figure_2c([*records, *others], published)
    starts = {round(axis.get_subplotspec().colspan.start) for axis in figure.axes}
    assert starts == {0, 1, 2}


def test_titles_of_many_panels_do_not_overlap(records, published):
    for_others = [record for record in records if record.kind in ("generation", "efficiency")]
    names = ("dit-unconditional-demo", "u-vit-unconditional-demo")
    others = [synthetic.elsewhere(record, diffusion=name) for name in names for record in for_others]
    figure = figure_2c([*records, *others], published)
    figure.canvas.draw()
    titles = [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    assert len(titles) > 6
    assert not any(one.overlaps(other) for one, other in itertools.combinations(titles, 2))


def test_figure_3a_separates_with_and_without_shortcuts(records, published):
    figure = figure_3a(records, published)
    psnr = figure.axes[1]
    assert psnr.get_ylabel() == "PSNR (dB) ↑"
    for colour, names in (
        ("blue", ["dc-ae-f32-demo", "dc-ae-f64-demo"]),
        ("orange", ["dc-ae-f32-no-residual-demo", "dc-ae-f64-no-residual-demo"]),
        ("green", ["sd-vae-f8-demo", "sd-vae-f8-space-to-channel-demo"]),
    ):
        expected = [value_of(records, "reconstruction", name, "scenes", 64, "psnr") for name in names]
        assert curve(psnr, colour)[1][: len(names)] == expected
    assert {"DC-AE", "DC-AE without\nshortcuts"} <= set(texts(figure))
    assert (
        "Paper, f64 at ImageNet 256 px: rFID 28.3 (second-hand) of stacked SD-VAE stages, 0.50 (second-hand) of DC-AE."
        in " ".join(texts(figure)).replace("\n", " ")
    )


def test_figure_3b_follows_an_autoencoder_from_low_to_high_resolution(records, published):
    figure = figure_3b(records, published)
    psnr = figure.axes[1]
    for colour, name in (("blue", "dc-ae-f64-demo"), ("orange", "dc-ae-f64-no-high-resolution-demo")):
        x, y = curve(psnr, colour)
        assert x[:2] == [64, 128]
        assert y[:2] == [value_of(records, "reconstruction", name, "scenes", r, "psnr") for r in (64, 128)]
    assert len(figure.axes) == 2  # photographs have one resolution only
    footnote = " ".join(texts(figure)).replace("\n", " ")
    assert "f64 0.50 and 7.40, with high-resolution phase 0.20 (second-hand) at 1024 px; f8 0.51 and 0.19." in footnote


def values_of(records, names, resolution: int, metric: str) -> list[float]:
    return [value_of(records, "reconstruction", name, "scenes", resolution, metric) for name in names]


def test_figure_3a_follows_each_series_of_a_study_from_f8_to_f64(ablations, published):
    psnr = figure_3a(ablations, published).axes[1]
    for colour, names in (
        ("blue", [f"dc-ae-f{f}" for f in (8, 16, 32, 64)]),
        ("orange", [f"dc-ae-f{f}-no-shortcuts" for f in (8, 16, 32, 64)]),
        ("green", ["dc-ae-f8", *(f"dc-ae-f8-space-to-channel-f{f}" for f in (16, 32, 64))]),
    ):
        x, y = curve(psnr, colour)
        assert x[:4] == [8, 16, 32, 64]
        assert y[:4] == values_of(ablations, names, 64, "psnr")


def test_figure_3b_has_two_lines_for_each_shape(ablations, published):
    psnr = figure_3b(ablations, published).axes[1]
    for colour, ending in (("blue", ""), ("orange", "-low")):
        _, y = curve(psnr, colour)
        for f in (32, 64):
            low, high = (values_of(ablations, [f"dc-ae-f{f}{ending}"], r, "psnr")[0] for r in (64, 128))
            assert (low, high) in itertools.pairwise(y)


def test_figure_3a_pairs_a_variant_with_its_own_base(ablations, published):
    """Of two studied autoencoders at f64: not the base of one with the variant of the other."""
    base = synthetic.autoencoder("dc-ae-f64-wide", 64, 256, "DC-AE-f64")
    variant = synthetic.variant("dc-ae-f64-wide-no", 64, "shortcuts", "dc-ae-f64-wide", "no shortcuts", shortcuts=False)
    wide = [synthetic.reconstruction("scenes", 64, *each) for each in ((base, 0.99), (variant, 0.5))]
    psnr = figure_3a([wide[0], *ablations, wide[1]], published).axes[1]
    assert curve(psnr, "blue")[1][3] == values_of(ablations, ["dc-ae-f64"], 64, "psnr")[0]
    assert curve(psnr, "orange")[1][3] == values_of(ablations, ["dc-ae-f64-no-shortcuts"], 64, "psnr")[0]
    assert "SD-VAE" not in texts(psnr.figure)


def test_figure_3a_has_the_papers_line_of_stacked_sd_vae_stages(ablations, published):
    stacked = [
        synthetic.variant(f"sd-vae-f{f}c{f * f // 16}", f, "shortcuts", f"dc-ae-f{f}", "stacked", kind="diffusers")
        for f in (16, 32, 64)
    ]
    records = [synthetic.reconstruction("scenes", 64, facts, 0.7 - i / 10) for i, facts in enumerate(stacked)]
    role = (("shortcuts", "dc-ae-f8", "nothing stacked"),)
    f8 = [synthetic.elsewhere(r, beside=role) if r.cell.autoencoder == "sd-vae-f8" else r for r in ablations]
    psnr = figure_3a([*f8, *records], published).axes[1]
    x, y = curve(psnr, "vermillion")
    assert x[:4] == [8, 16, 32, 64] and "stages stacked" in " ".join(texts(psnr.figure)).replace("\n", " ")
    assert y[:4] == values_of([*f8, *records], ["sd-vae-f8", *(facts["autoencoder"] for facts in stacked)], 64, "psnr")


def test_figure_3b_shows_the_phase_on_all_layers_as_a_line_of_its_own(ablations, published):
    facts = synthetic.variant("dc-ae-f64-all", 64, "high-resolution", "dc-ae-f64", "on all layers", high="all")
    records = [*ablations, *(synthetic.reconstruction("scenes", r, facts, 0.99) for r in (64, 128))]
    psnr = figure_3b(records, published).axes[1]
    assert curve(psnr, "purple")[1][:2] == [values_of(records, ["dc-ae-f64-all"], r, "psnr")[0] for r in (64, 128)]
    assert curve(psnr, "orange") == curve(figure_3b(ablations, published).axes[1], "orange")


@pytest.mark.parametrize("draw_figure", [figure_3a, figure_3b])
def test_variants_of_other_studies_are_in_neither_panel_of_figure_3(ablations, published, draw_figure):
    others = ("gan", "kl", "blocks", "recipe", "tuned-layers")
    without = [record for record in ablations if record.cell.study not in others]
    assert len(without) < len(ablations)
    drawn, expected = draw_figure(ablations, published), draw_figure(without, published)
    for axis, other in zip(drawn.axes, expected.axes, strict=True):
        assert [line.get_xydata().tolist() for line in axis.get_lines()] == [
            line.get_xydata().tolist() for line in other.get_lines()
        ]


def test_of_two_autoencoders_of_one_compression_figure_3a_shows_the_base_of_the_study(ablations, published):
    second = synthetic.autoencoder("dc-ae-f32-wide", 32, 64, "DC-AE-f32")
    psnr = figure_3a([synthetic.reconstruction("scenes", 64, second, 0.99), *ablations], published).axes[1]
    assert curve(psnr, "blue")[1][:4] == values_of(ablations, [f"dc-ae-f{f}" for f in (8, 16, 32, 64)], 64, "psnr")


# --- Figure 5 ---


def heights(axis) -> dict[str, float]:
    """Height of the bar at each named place."""
    labels = [tick.get_text().replace("\n", " ") for tick in axis.get_xticklabels()]
    return {labels[round(bar.get_x() + bar.get_width() / 2)]: bar.get_height() for bar in axis.patches}


def test_figure_5_shows_the_base_and_its_variants_beside_the_paper_s_numbers(ablations, published):
    axes = panels(figure_5(ablations, published))
    assert list(axes) == ["paper: ImageNet 256 px\nDC-AE f32c32", "here: scenes 64 px\ndc-ae-f32"]
    uses = ["no GAN", "GAN on full model", "GAN on decoder head"]
    paper, here = (heights(axis) for axis in axes.values())
    assert paper == dict(zip(uses, [3.82, 0.82, 0.69], strict=True))
    names = ["dc-ae-f32-no-gan", "dc-ae-f32-full-gan", "dc-ae-f32"]
    assert here == dict(zip(uses, values_of(ablations, names, 64, "rfid"), strict=True))


def test_figure_5_keeps_the_place_of_what_was_not_run(ablations, published):
    left = [record for record in ablations if record.cell.autoencoder != "dc-ae-f32-full-gan"]
    here = panels(figure_5(left, published))["here: scenes 64 px\ndc-ae-f32"]
    assert set(heights(here)) == {"no GAN", "GAN on decoder head"}
    assert len(here.get_xticklabels()) == 3


def test_figure_5_keeps_random_features_apart_from_the_paper_and_says_where_its_numbers_come_from(published):
    random, real = (figure_5(synthetic.ablation_records(features), published) for features in (True, False))
    apart = "compare bars within a panel only, never with the paper's"
    assert apart in " ".join(texts(random)).replace("\n", " ")
    assert apart not in " ".join(texts(real)).replace("\n", " ")
    paper, here = random.axes
    assert paper.get_ylabel() == "rFID ↓" and here.get_ylabel() == "rFID ↓\n[random features]"
    assert not paper.get_shared_y_axes().joined(paper, here)
    assert "second-hand: public notes on the ICLR version" in " ".join(texts(real)).replace("\n", " ")


@pytest.mark.parametrize("name", DRAWN_FROM_RECORDS)
def test_error_bars_are_drawn(published, name):
    axes = [
        axis for axis in draw_figure(name, records_for(name), published, None).axes if "paper" not in axis.get_title()
    ]
    assert any(axis.containers and axis.containers[0].has_yerr for axis in axes)


@pytest.mark.parametrize("name", DRAWN_FROM_RECORDS)
def test_without_records_a_figure_says_not_run(published, name):
    assert "not run" in texts(draw_figure(name, [], published, None))


@pytest.mark.parametrize("name", DRAWN_FROM_RECORDS)
def test_half_of_the_records_draw_a_figure(published, name):
    records = records_for(name)
    for left in (records[::2], records[1::2], [r for r in records if r.kind != "generation"]):
        assert isinstance(draw_figure(name, left, published, None), Figure)


# --- samples ---


def write_tiles(path, shades: list[list[int]], side: int) -> None:
    """A PNG of square tiles, each of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.kron(np.array(shades, np.uint8), np.ones((side, side), np.uint8))
    Image.fromarray(grid).convert("RGB").save(path)


@pytest.fixture
def grid_of(records, tmp_path):
    def path(result) -> Path:
        return tmp_path / f"{result.kind} {' '.join(map(str, result.cell.identity))}.png"

    for number, record in enumerate(records):
        last = [100 + number, 120, 130, 140] if record.kind == "reconstruction" else [50, 60, 70, 80]
        if record.kind in ("reconstruction", "generation"):
            write_tiles(path(record), [[10, 20, 30, 40], last], record.cell.resolution)
    return path


def strips(figure: Figure) -> list[np.ndarray]:
    return [axis.get_images()[0].get_array() for axis in figure.axes]


def test_reconstructions_stand_below_their_originals(records, grid_of):
    figure = figure_reconstruction_samples(records, grid_of)
    names = texts(figure)
    assert names[0] == "original"
    assert names[-2:] == ["scenes 128 px", "photographs 128 px"]
    assert not any("identity" in name or "-no-" in name for name in names)
    blocks = strips(figure)
    assert len(blocks) == 2 * 7  # two datasets; original and six autoencoders
    assert blocks[0].shape == (128, 3 * 128, 3)
    assert [int(blocks[0][0, 128 * k, 0]) for k in range(3)] == [10, 20, 30]
    assert int(blocks[2][0, 0, 0]) >= 100


def test_generated_samples_stand_without_and_with_guidance(records, grid_of):
    blocks = strips(figure_generation_samples(records, grid_of))
    assert len(blocks) == 2 * sum(record.kind == "generation" for record in records)
    assert [int(block[0, 0, 0]) for block in blocks[:2]] == [10, 50]


def test_samples_of_different_prompts_are_shown_with_them(records, grid_of):
    (first, *_) = (each for each in records if each.kind == "generation")
    write_tiles(grid_of(first), [list(range(6))] * 2, first.cell.resolution)
    asked = {"prompts": ["face", "face", "flowers", "face", "landscape", "shapes"]}
    figure = figure_generation_samples([synthetic.changed(first, **asked)], grid_of)
    for axis in figure.axes:
        side = first.cell.resolution
        assert axis.get_images()[0].get_array()[0, ::side, 0].tolist() == [0, 2, 4, 5]
        assert [text.get_text() for text in axis.texts] == ["face", "flowers", "landscape", "shapes"]


def test_sample_figures_without_images_say_not_run(records, tmp_path):
    for name in SAMPLE_FIGURES:
        assert texts(draw_figure(name, records, None, lambda result: tmp_path / "none.png"))[-1] == "not run"


# --- style and files ---


def test_labels_at_line_ends_do_not_overlap():
    @styled
    def figure_of_close_lines():
        figure, ((axis,),) = new_figure(1, 1, 2.0)
        lines = [Line(f"line {k}", COLOURS["blue"], [(0, 0, None), (1, 1 + k / 1000, None)]) for k in range(6)]
        draw(axis, lines)
        label_ends(axis, lines)
        return figure

    figure = figure_of_close_lines()
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 6
    for lower, upper in itertools.pairwise(boxes):
        assert upper.y0 >= lower.y1 - 1  # a pixel of rounding


def test_every_figure_has_a_caption_that_names_it():
    for name in DRAWN_FROM_RECORDS:
        if not name.startswith("figure"):
            continue  # not one of the paper's
        assert FIGURES[name].startswith(f"Figure {name.removeprefix('figure')}.")


def test_files_repeat_to_the_byte_and_hold_no_date(records, published, tmp_path):
    for folder in ("first", "second"):
        save_figure(figure_3b(records, published), tmp_path / folder, "figure3b", FIGURES["figure3b"])
    for ending in ("png", "pdf"):
        first, second = ((tmp_path / folder / f"figure3b.{ending}").read_bytes() for folder in ("first", "second"))
        assert first == second
        assert b"CreationDate" not in first and b"Software" not in first and b"matplotlib" not in first.lower()
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == ["figure3b.pdf", "figure3b.png"]
    assert Image.open(tmp_path / "first" / "figure3b.png").info["Description"] == FIGURES["figure3b"]


def test_all_figures_are_written(records, grid_of, tmp_path):
    few = [record for record in records if record.cell.spatial_compression == 64]
    paths = draw_figures(few, grid_of, tmp_path / "figures")
    assert [path.name for path in paths] == [f"{name}.{ending}" for name in FIGURES for ending in ("png", "pdf")]
    assert all(path.stat().st_size > 1000 for path in paths)


# --- latents against FID ---


def test_latents_stand_against_the_fid_of_models_trained_on_them(records, published):
    figure = draw_figure("latents", records, published, None)
    axes = {axis.get_xlabel(): axis for axis in figure.axes}
    lost = axes["PSNR lost to noise 0.2 (dB)"]
    assert len(lost.containers) == 9  # seven U-ViT and two DiT
    assert [float(bar[0].get_xdata()[0]) for bar in lost.containers] == pytest.approx([2.0] * 9)
    assert len(axes["high frequencies"].containers) == 6  # not of f64, whose latents are too small
    flip = axes["flip error"]
    found = sorted({float(bar[0].get_xdata()[0]) for bar in flip.containers})
    assert found == pytest.approx(sorted(1.1 - quality for quality in (0.86, 0.62, 0.45, 0.84, 0.8, 0.855)))
    x, y = ([float(getattr(bar[0], f"get_{axis}data")()[0]) for bar in flip.containers] for axis in "xy")
    expected = np.corrcoef(rankdata(x), rankdata(y))[0, 1]
    assert flip.get_title() == f"ρ = {expected:+.2f}, n = 9"


def test_latents_without_diffusion_models_say_so(records, published):
    reconstructions = [record for record in records if record.kind == "reconstruction"]
    assert texts(draw_figure("latents", reconstructions, published, None)).count("not run") == 6


# --- marks ---


@pytest.mark.parametrize("name", DRAWN_FROM_RECORDS)
def test_a_point_of_another_protocol_is_marked_and_explained(name, published):
    records = records_for(name)
    assert not any("not comparable" in text for text in texts(draw_figure(name, records, published, None)))
    shown = {
        "figure2b": "dc-ae-f32-demo",
        "figure3b": "dc-ae-f64-no-high-resolution-demo",
        "figure5": "dc-ae-f32-no-gan",
    }
    chosen = shown.get(name, "dc-ae-f64-demo")
    changed = {"protocol_fingerprint": "other", "protocol": {"crop": "none"}}
    mixed = [
        synthetic.changed(record, **changed)
        if record.cell.autoencoder == chosen and record.kind != "efficiency"
        else record
        for record in records
    ]
    found = texts(draw_figure(name, mixed, published, None))
    assert any("not comparable" in text for text in found)
    assert "a" in found or any("[a]" in text for text in found)


def test_a_number_that_was_measured_otherwise_stands_beside_no_sample(records, grid_of):
    chosen = "dc-ae-f64-demo"
    mixed = [
        synthetic.changed(record, protocol_fingerprint="other") if record.cell.autoencoder == chosen else record
        for record in records
    ]
    usual, marked = (texts(figure_reconstruction_samples(each, grid_of)) for each in (records, mixed))
    assert sum(" –" in text for text in usual) == 0 < sum(" –" in text for text in marked)


def test_a_model_without_a_speed_is_left_out_of_figure_2c(records, published):
    """One that did not fit, or whose optimised form was refused, has a record without it."""
    name = "inference_images_per_second"
    without = [
        synthetic.changed(record, values={key: value for key, value in record.values.items() if key != name})
        if record.kind == "efficiency" and record.cell.autoencoder == "dc-ae-f64-demo"
        else record
        for record in records
    ]

    def points(of) -> int:
        return sum(len(x) for axis in figure_2c(of, published).axes for x, _ in [curve(axis, "blue")])

    assert points(without) < points(records)
