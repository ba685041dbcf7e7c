# SPDX-License-Identifier: Apache-2.0
"""The table of ablations from synthetic records: which rows stand together, and what is said of their difference."""

from __future__ import annotations

import io
import math
from typing import get_args

import pandas
import pytest

from dcae.benchmark.benchmark_file import StudyName
from dcae.benchmark.record import Value
from evaluation.tables.ablations import STUDIES, build_ablations
from evaluation.tables.formats import FORMATS, to_csv, to_latex, to_markdown
from tests.evaluation import synthetic


def frame(table) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(to_csv(table)), na_values="not run")


@pytest.fixture
def records():
    return synthetic.ablation_records(random_features=False)


def rows(records, study: str, resolution: int = 64) -> pandas.DataFrame:
    data = frame(build_ablations(records))
    return data[(data["Study"] == study) & (data["Resolution"] == resolution)].set_index("Autoencoder")


def changed(records, name: str, **update):
    return [synthetic.changed(r, **update) if r.cell.autoencoder == name else r for r in records]


def test_each_study_is_a_section_in_the_order_of_the_benchmark(records):
    table = build_ablations(records, "ablations")
    assert [section.heading for section in table.sections] == list(STUDIES.values())[:-1]  # but for "other"
    assert table.title == "Ablations" and "benchmark ablations" in table.caption


def test_every_study_that_a_benchmark_may_name_has_a_heading():
    assert set(STUDIES) == set(get_args(StudyName))


def test_a_benchmark_without_studies_says_so():
    table = build_ablations([])
    assert "no studies" in table.caption and table.sections == []
    assert all(render(table) for render in FORMATS.values())


def test_variants_stand_below_their_base_at_each_place(records):
    for resolution in (64, 128):
        data = rows(records, "high-resolution", resolution)
        assert list(data.index) == ["dc-ae-f32", "dc-ae-f32-low", "dc-ae-f64", "dc-ae-f64-low"]
        assert list(data["What differs"]) == ["base", "no high-resolution phase"] * 2
        assert list(data["Base"]) == ["dc-ae-f32"] * 2 + ["dc-ae-f64"] * 2


def test_one_place_is_named_in_the_caption_and_several_in_columns(records):
    several, one = build_ablations(records), build_ablations([r for r in records if r.cell.resolution == 64])
    assert "Data: scenes at 64 px." in one.caption and "| Dataset" not in to_markdown(one)
    assert "Data:" not in several.caption and "| Dataset" in to_markdown(several)


def test_what_belongs_to_no_study_is_left_out(records):
    names = set(frame(build_ablations(records))["Autoencoder"])
    assert names & {"identity", "blur", "mean-colour", "sd-vae-f8"} == set()


def test_parameters_are_in_millions(records):
    counted = {"parameters": Value(value=323_456_789, n=1)}
    table = build_ablations(
        [synthetic.changed(r, values=r.values | counted) if r.cell.autoencoder == "dc-ae-f32" else r for r in records]
    )
    data = frame(table).set_index("Autoencoder")["Params (M)"]
    assert data["dc-ae-f32"].unique() == pytest.approx([323.456789])
    assert data["dc-ae-f32-kl"].isna().all()
    assert "323.46" in to_markdown(table)


def test_values_are_those_of_the_records(records):
    data = rows(records, "kl")
    record = next(r for r in records if r.cell.autoencoder == "dc-ae-f32-kl" and r.cell.resolution == 64)
    for column, metric in {"rFID": "rfid", "PSNR (dB)": "psnr", "SSIM": "ssim", "LPIPS": "lpips"}.items():
        assert data.loc["dc-ae-f32-kl", column] == record.values[metric].value
        assert data.loc["dc-ae-f32-kl", f"{column}, standard error"] == record.values[metric].standard_error


def test_the_difference_is_to_the_base_at_the_same_place_with_the_error_of_both(records):
    data = rows(records, "gan", 128)
    base, variant = data.loc["dc-ae-f32"], data.loc["dc-ae-f32-no-gan"]
    name = "rFID, difference to base"
    assert variant[name] == variant["rFID"] - base["rFID"] > 0
    error = math.hypot(variant["rFID, standard error"], base["rFID, standard error"])
    assert variant[f"{name}, standard error"] == pytest.approx(error)
    assert math.isnan(base[name])
    assert f"+{variant[name]:.2f} ± " in to_markdown(build_ablations(records))


def test_the_difference_is_paired_where_both_records_have_their_groups(records):
    """Both rFIDs vary together by 5 from group to group, and their difference hardly."""

    def with_groups(record, shift: float):
        groups = [20 + shift + 5 * (-1) ** group + 0.001 * shift * (group % 3) for group in range(64)]
        value = Value(value=20 + shift, n=64, standard_error=5.0, leave_group_out=groups)
        return synthetic.changed(record, values={**record.values, "rfid": value})

    shifts = {"dc-ae-f32": 0.0, "dc-ae-f32-no-gan": 2.0, "dc-ae-f32-full-gan": 0.0}
    grouped = [
        with_groups(record, shifts[record.cell.autoencoder]) if record.cell.autoencoder in shifts else record
        for record in records
    ]
    data = rows(grouped, "gan")
    variant = data.loc["dc-ae-f32-no-gan"]
    assert variant["rFID, difference to base"] == pytest.approx(2, abs=0.2)
    assert variant["rFID, difference to base, standard error"] < 0.2 < math.hypot(5, 5)
    assert variant["rFID, compared with base"] == "worse, one training each"
    assert data.loc["dc-ae-f32-full-gan", "rFID, compared with base"] == "="
    assert pandas.isna(data.loc["dc-ae-f32", "rFID, compared with base"])  # itself


def test_no_difference_between_values_of_other_protocols_or_other_features(records):
    name = "rFID, difference to base"
    other = changed(records, "dc-ae-f32-no-gan", protocol_fingerprint="other", protocol={"crop": "none"})
    assert math.isnan(rows(other, "gan").loc["dc-ae-f32-no-gan", name])
    assert not math.isnan(rows(other, "gan").loc["dc-ae-f32-full-gan", name])
    assert any(note.startswith("a: another reconstruction protocol") for note in build_ablations(other).notes)

    random = synthetic.ablation_records(random_features=True)
    mixed = [r for r in random if r.cell.autoencoder == "dc-ae-f32-no-gan"]
    mixed += [r for r in records if r.cell.autoencoder != "dc-ae-f32-no-gan"]
    row = rows(mixed, "gan").loc["dc-ae-f32-no-gan"]
    assert math.isnan(row[name]) and math.isnan(row[f"{name} [random features]"])


def test_random_features_are_named(records):
    random = build_ablations(synthetic.ablation_records(random_features=True))
    for render in FORMATS.values():
        assert "[random features]" in render(random)
        assert "[random features]" not in render(build_ablations(records))


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("gan", {"dc-ae-f32": 0.69, "dc-ae-f32-no-gan": 3.82, "dc-ae-f32-full-gan": 0.82}),
        ("high-resolution", {"dc-ae-f64-low": 0.50}),
        ("kl", {"dc-ae-f32": 0.69}),
    ],
)
def test_the_paper_s_numbers_stand_beside_the_variants_that_it_has(records, study, expected):
    assert rows(records, study)["rFID, paper"].dropna().to_dict() == expected


def test_figure_3a_s_numbers_are_of_dc_ae_and_of_stacked_sd_vae_stages_at_the_latent_size_of_f8c4(records):
    """28.3 is also Figure 2a's SD-VAE-f64: DC-AE without shortcuts is no line of the paper."""
    same_size = [
        synthetic.elsewhere(r, latent_channels=256) if r.cell.autoencoder.startswith("dc-ae-f64") else r
        for r in records
    ]
    facts = synthetic.variant("sd-vae-f64c256", 64, "shortcuts", "dc-ae-f64", "stacked", kind="diffusers")
    stacked = synthetic.reconstruction("scenes", 64, facts | {"latent_channels": 256}, 0.3, random_features=False)
    found = rows([*same_size, stacked], "shortcuts")["rFID, paper"].dropna()
    assert found.to_dict() == {"dc-ae-f64": 0.50, "sd-vae-f64c256": 28.3}
    assert rows(records, "shortcuts")["rFID, paper"].dropna().empty  # f64c128 has half the latents


def test_an_autoencoder_beside_a_study_has_its_paper_number_and_no_difference(records):
    role = (("high-resolution", "dc-ae-f64", "SD-VAE f8"),)
    beside = [synthetic.elsewhere(r, beside=role) if r.cell.autoencoder == "sd-vae-f8" else r for r in records]
    data = rows(beside, "high-resolution")
    assert list(data.index) == ["dc-ae-f32", "dc-ae-f32-low", "dc-ae-f64", "dc-ae-f64-low", "sd-vae-f8"]
    row = data.loc["sd-vae-f8"]
    assert (row["What differs"], row["rFID, paper"]) == ("SD-VAE f8", 0.51)
    assert math.isnan(row["rFID, difference to base"])


def test_where_the_paper_s_numbers_come_from_is_noted(records):
    notes = " ".join(build_ablations(records).notes)
    assert "f32c32 without GAN at 256 px, f32c32 with full-model GAN at 256 px: arXiv" in notes
    assert "second-hand: public notes on the ICLR version" in notes
    assert "Beside scenes at 64 px stand the paper's numbers for ImageNet at 256 px" in notes


def test_planned_variants_without_records_are_not_run(records):
    planned = [record.cell for record in records]
    left = [record for record in records if record.cell.autoencoder != "dc-ae-f32-kl"]
    table = build_ablations(left, planned=planned)
    data = frame(table)
    assert len(data) == len(frame(build_ablations(records)))
    row = data[(data["Autoencoder"] == "dc-ae-f32-kl") & (data["Resolution"] == 64)].iloc[0]
    assert math.isnan(row["rFID"]) and row["What differs"] == "KL 1e-6, latents sampled"
    assert "not run" in to_markdown(table)


def test_nothing_is_bold(records):
    table = build_ablations(records)
    assert "**" not in to_markdown(table) and "\\textbf" not in to_latex(table)


def test_a_variant_without_its_base_is_shown_without_a_difference(records):
    left = [record for record in records if record.cell.autoencoder != "dc-ae-f32"]
    data = rows(left, "gan")
    assert list(data.index) == ["dc-ae-f32-no-gan", "dc-ae-f32-full-gan"]
    assert data["rFID, difference to base"].isna().all()


def test_two_records_of_one_cell_are_an_error(records):
    with pytest.raises(ValueError, match="two reconstruction records of one cell"):
        build_ablations([*records, records[0]])
