# SPDX-License-Identifier: Apache-2.0
"""Tables from synthetic records: which numbers stand where, and what is said about them."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pandas
import pytest

from dcae.benchmark import Benchmark
from dcae.benchmark.record import Record, Value
from evaluation.published import read_published
from evaluation.tables.cells import planned_cells
from evaluation.tables.formats import FORMATS, Number, to_csv, to_markdown, write_table
from evaluation.tables.metrics import METRICS
from evaluation.tables.paper import build_table
from evaluation.tables.rows import ABLATIONS, CONTROLS, HEADINGS, NOT_RUN, RE_EVALUATED, REPRODUCED, SUPPLIED
from evaluation.tables.seeds import over_seeds
from tests.evaluation import synthetic


def build_tables(results, benchmark: str = ""):
    return {f"table{number}": build_table(number, results, benchmark) for number in METRICS}


def write_tables(tables, folder):
    return [path for name, table in tables.items() for path in write_table(table, folder, name)]


def frame(table) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(to_csv(table)), na_values="not run", keep_default_na=True)


def entries(table, title: str, occurrence: int = 0) -> list:
    """The cells below a printed title, through all sections."""
    positions = [i for i, column in enumerate(table.columns) if column.title == title and column.in_csv]
    return [row[positions[occurrence]] for section in table.sections for row in section.rows]


def changed(records, where, **update):
    return [synthetic.changed(record, **update) if where(record) else record for record in records]


def is_kind(kind: str, autoencoder: str):
    return lambda record: record.kind == kind and record.cell.autoencoder == autoencoder


@pytest.fixture
def records():
    return synthetic.demo_records()


# --- what stands where ---


def of_paper(table: int, diffusion: str, dataset: str, resolution: int, name: str, patch_size: int):
    """Records of one row that the paper prints: of its data, resolution and models."""
    cell = synthetic.generation_cell(diffusion.lower(), diffusion, name, patch_size)
    place = {"dataset": dataset, "dataset_paper_name": dataset, "published_dataset": dataset, "resolution": resolution}
    return synthetic.generation(cell | place | {"published_resolution": resolution, "tables": (table,)}, False)


def test_table_5_stands_beside_the_paper_s_fid_and_clip_score():
    names = ("sd-vae-f8-demo", 2), ("dc-ae-f32-demo", 1)
    table = build_table(5, [each for name in names for each in of_paper(5, "PixArt-α", "MJHQ", 512, *name)])
    data = frame(table)
    assert list(data["FID w/ CFG, paper"]) == [6.3, 6.1]
    assert list(data["CLIP score w/ CFG, paper"]) == [26.36, 26.41]
    assert list(data["CLIP score w/ CFG"]) == [22.0, 22.0]
    assert list(data["Training (images/s), paper"]) == [43, 173]
    assert [section.heading for section in table.sections] == [REPRODUCED]  # nothing is left that was not run


def test_table_5_says_that_its_images_and_captions_were_trained_on():
    records = of_paper(5, "PixArt-α", "MJHQ", 512, "dc-ae-f32-demo", 1)
    fitted = [synthetic.elsewhere(each, evaluated_on="MJHQ") for each in records]
    other = [synthetic.elsewhere(each, evaluated_on="COCO") for each in records]
    said = "MJHQ at 512 px: FID and CLIP score are of samples for the captions, and against the images, that"
    assert any(note.startswith(said) for note in build_table(5, fitted).notes)
    assert not any("was trained on" in note for note in build_table(5, other).notes)


def test_the_papers_protocol_is_told_where_another_one_measured():
    records = of_paper(3, "DiT-XL", "ImageNet", 512, "sd-vae-f8-demo", 2)
    records += of_paper(3, "UViT-H", "ImageNet", 512, "dc-ae-f64-demo", 1)

    def measured(name: str, images: int) -> list[str]:
        def of(result):
            values = {key: value.model_copy(update={"n": images}) for key, value in result.values.items()}
            return synthetic.changed(result, protocol={"name": name}, values=values)

        notes = build_table(3, [of(each) if each.kind == "generation" else each for each in records]).notes
        return [note for note in notes if note.startswith("Protocol in the paper")]

    [of_dit] = measured("dc-ae", 50_000)
    assert "DiT-XL SD-VAE-f8 p2: adm: the DiT paper's own numbers" in of_dit and "guidance on the first three" in of_dit
    assert len(measured("dc-ae", 10_000)) == 2  # fewer samples than the paper
    [of_uvit] = [note for note in measured("adm", 50_000) if "UViT-H" in note]
    assert of_uvit.endswith("Here: adm, 50,000 images.")


def test_both_data_sets_of_table_4_have_the_speed_that_the_paper_prints_once():
    records = of_paper(4, "DiT-S", "FFHQ", 1024, "dc-ae-f32-demo", 1)
    records += of_paper(4, "DiT-S", "MJHQ", 1024, "dc-ae-f32-demo", 1)
    measured = frame(build_table(4, records)).query("`Number class` == 'reproduced'")
    assert list(measured["Training (images/s), paper"]) == [475, 475]
    assert list(measured["FID w/o CFG, paper"]) == [13.65, 34.35]
    assert measured["FID w/ CFG, paper"].to_list()[1] == 27.20
    assert measured["FID w/ CFG, paper"].isna().to_list() == [True, False]  # FFHQ is unconditional


def test_every_cell_has_its_row(records):
    tables = build_tables(records)
    counts = {name: sum(len(section.rows) for section in table.sections) for name, table in tables.items()}
    reconstructions = sum(record.kind == "reconstruction" for record in records)
    generations = sum(record.kind == "generation" for record in records)
    not_run = {"table4": 4 + 4 + 2, "table5": 2}  # the paper's rows, of which there are no records
    assert counts == {"table1": generations, "table2": reconstructions, "table3": generations, **not_run}


def test_what_records_say_of_their_images_stands_below_the_table_once(records):
    remark = "12 of 16 images are smaller than 128 px and were enlarged"
    changed_records = changed(records, lambda record: record.kind == "reconstruction", remarks=[remark])
    notes = build_table(2, changed_records).notes
    assert sum(note == f"scenes at 64 px: {remark}." for note in notes) == 1
    assert not any(remark in note for note in build_table(3, changed_records).notes)


def test_the_paper_s_value_stands_right_of_the_measured_one(records):
    for table in build_tables(records).values():
        titles = [column.title for column in table.columns]
        names = [column.name for column in table.columns]
        for index, title in enumerate(titles):
            if title == "paper":
                assert names[index - 1].removesuffix(" [random features]") == names[index].removesuffix(", paper")


def test_values_and_published_values_are_the_right_ones(records):
    data = frame(build_table(2, records))
    row = data[(data["Autoencoder"] == "dc-ae-f64-demo") & (data["Dataset"] == "photographs")].iloc[0]
    record = next(r for r in records if is_kind("reconstruction", "dc-ae-f64-demo")(r) and r.cell.resolution == 128
                  and r.cell.dataset == "photographs")  # fmt: skip
    assert row["PSNR (dB)"] == record.values["psnr"].value
    assert row["PSNR (dB), standard error"] == record.values["psnr"].standard_error
    assert row["PSNR (dB), n"] == 64
    assert row["PSNR (dB), paper"] == 31.04
    assert row["Latent shape"] == "2x2x128"


def test_speed_is_shown_with_its_ratio_to_f8_p2(records):
    data = frame(build_table(3, records))
    data = data[data["Diffusion model"] == "uvit-demo"].set_index(["Autoencoder", "p"])
    name = "Training (images/s)"
    base, fast = data.loc[("sd-vae-f8-demo", 2)], data.loc[("dc-ae-f64-demo", 1)]
    assert base[f"{name}, ratio to f8 p2"] == 1.0
    assert fast[f"{name}, ratio to f8 p2"] == pytest.approx(fast[name] / base[name])
    assert fast[f"{name}, paper, ratio to f8 p2"] == pytest.approx(6295 / 352)
    assert "(17.9×)" in to_markdown(build_table(3, records))


def test_entries_that_are_one_model_in_the_paper_share_the_row_that_speeds_are_divided_by(records):
    """As DiT-XL with the guidance that fits DC-AE-f32, or weights of a longer training."""
    other = synthetic.generation(synthetic.generation_cell("uvit-other", "UViT-S", "dc-ae-f64-demo", 1))
    data = frame(build_table(3, [*records, *other])).set_index(["Diffusion model", "Autoencoder", "p"])
    name = "Training (images/s)"
    base, fast = data.loc[("uvit-demo", "sd-vae-f8-demo", 2)], data.loc[("uvit-other", "dc-ae-f64-demo", 1)]
    assert fast[f"{name}, ratio to f8 p2"] == pytest.approx(fast[name] / base[name])


def test_no_ratio_without_an_f8_p2_row(records):
    left = [record for record in records if record.cell.patch_size != 2]
    assert frame(build_table(3, left))["Training (images/s), ratio to f8 p2"].isna().all()


def test_table_1_takes_the_dit_xl_row_of_dc_ae_from_table_3_and_says_so():
    records = synthetic.demo_records(False)
    table = build_table(1, records)
    row = frame(table).set_index(["Diffusion model", "Autoencoder"]).loc[("dit-demo", "dc-ae-f32-demo")]
    assert row["FID w/o CFG, paper"] == 9.56
    assert any("are those of Table 3" in note for note in table.notes)


def test_paper_names_stand_in_brackets_behind_entry_names(records):
    text = to_markdown(build_table(1, records))
    assert "| uvit-demo (stands in for UViT-S) | dc-ae-f64-demo (DC-AE-f64)" in text
    assert "| sd-vae-f8-space-to-channel-demo " in text


def test_rows_of_one_setting_are_ordered_by_compression(records):
    data = frame(build_table(3, records))
    pairs = list(data[data["Diffusion model"] == "uvit-demo"][["Autoencoder", "p"]].itertuples(index=False, name=None))
    assert pairs[:4] == [("sd-vae-f8-demo", 2), ("sd-vae-f8-demo", 4), ("sd-vae-f32-demo", 1), ("dc-ae-f32-demo", 1)]


# --- classes of numbers ---


def test_classes_stand_under_headings_of_their_own(records):
    mixed = changed(records, is_kind("reconstruction", "sd-vae-f8-demo"), number_class="re-evaluated")
    table = build_table(2, mixed)
    headings = [section.heading for section in table.sections]
    assert headings == [REPRODUCED, RE_EVALUATED, ABLATIONS, CONTROLS]
    assert headings == [heading for heading in HEADINGS if heading not in (NOT_RUN, SUPPLIED)]
    data = frame(table).groupby("section")["Autoencoder"].unique()
    assert list(data[RE_EVALUATED]) == ["sd-vae-f8-demo"]
    assert set(data[CONTROLS]) == {"identity", "blur", "mean-colour"}
    assert all("-no-" in name for name in data[ABLATIONS])


def test_random_features_are_named_in_columns_and_caption():
    real, random = build_table(2, synthetic.demo_records(False)), build_table(2, synthetic.demo_records(True))
    assert "random" not in real.caption + "".join(column.name for column in real.columns)
    assert "[random features]: rFID, LPIPS" in random.caption
    named = {column.name for column in random.columns if column.measured}
    assert named == {"rFID [random features]", "PSNR (dB)", "SSIM", "LPIPS [random features]"}
    for render in FORMATS.values():
        assert "[random features]" in render(random)


def test_random_and_real_features_never_share_a_column():
    real = [record for record in synthetic.demo_records(False) if record.cell.dataset == "scenes"]
    random = [record for record in synthetic.demo_records(True) if record.cell.dataset == "photographs"]
    data = frame(build_table(2, real + random)).set_index("Dataset")
    assert data.loc["photographs", "rFID"].replace("–", None).isna().all()
    assert data.loc["scenes", "rFID [random features]"].isna().all()
    assert data.loc["scenes", "rFID"].notna().all()


# --- bold ---


def bold_names(table, title: str) -> list[str]:
    names = entries(table, "Autoencoder")
    return [name for name, number in zip(names, entries(table, title), strict=True) if number.bold]


def with_psnr(records, name: str, value: float, error: float | None):
    def update(record):
        psnr = record.values["psnr"].model_copy(update={"value": value, "standard_error": error})
        return synthetic.changed(record, values={**record.values, "psnr": psnr})

    return [update(record) if is_kind("reconstruction", name)(record) else record for record in records]


@pytest.mark.parametrize(
    ("difference", "error", "bold"),
    [(1.0, 0.1, ["dc-ae-f32-demo"]), (0.25, 0.1, []), (1.0, None, []), (-1.0, 0.1, ["sd-vae-f32-demo"])],
)
def test_bold_only_if_distinguishable(records, difference, error, bold):
    # 0.25 is less than two standard errors of a difference of two values known to 0.1 each.
    place = [r for r in records if r.cell.dataset == "photographs" and r.cell.spatial_compression == 32]
    place = with_psnr(with_psnr(place, "sd-vae-f32-demo", 20.0, error), "dc-ae-f32-demo", 20.0 + difference, error)
    assert bold_names(build_table(2, place), "PSNR (dB) ↑") == bold


def test_lower_is_bold_where_lower_is_better(records):
    place = [r for r in records if r.cell.dataset == "photographs" and r.cell.spatial_compression == 64]
    assert bold_names(build_table(2, place), "rFID ↓ [random features]") == ["dc-ae-f64-demo"]


def speeds(spread: float):
    """Two rows of one device, the first one faster, whose repeats differ by a share of their value."""
    records = of_paper(3, "DiT-XL", "ImageNet", 512, "sd-vae-f8-demo", 2)
    records += of_paper(3, "DiT-XL", "ImageNet", 512, "dc-ae-f32-demo", 1)
    fields = {"n": 90, "standard_error": 1.0, "unit": "images/s"}
    found = []
    for record, speed in zip((r for r in records if r.kind == "efficiency"), (993.0, 771.0), strict=True):
        value = Value(value=speed, repeats=[speed, speed * (1 - spread)], **fields)
        found.append(synthetic.changed(record, values={**record.values, "training_images_per_second": value}))
    return found


def test_speeds_whose_repeats_differ_are_marked_and_never_bold():
    steady, unsteady = (build_table(3, speeds(spread)) for spread in (0.01, 0.2))
    assert bold_names(steady, "Training (images/s) ↑") == ["sd-vae-f8-demo"]
    assert bold_names(unsteady, "Training (images/s) ↑") == []
    assert {number.mark for number in entries(unsteady, "Training (images/s) ↑") if number.value} == {"u"}
    assert any(note.startswith("u: repeats of this value differ by more than 5%") for note in unsteady.notes)
    assert not any(note.startswith("u: ") for note in steady.notes)


def test_rows_that_lose_to_a_control_are_marked_named_and_never_bold(records):
    place = [r for r in records if r.cell.dataset == "photographs" and r.kind == "reconstruction"]
    assert bold_names(build_table(2, place), "PSNR (dB) ↑") == ["dc-ae-f32-demo", "dc-ae-f64-demo"]
    low = with_psnr(with_psnr(place, "dc-ae-f64-demo", 12.0, 0.1), "sd-vae-f64-demo", 11.0, 0.1)
    low = with_psnr(low, "mean-colour", 13.5, 0.1)
    table = build_table(2, low)
    assert bold_names(table, "PSNR (dB) ↑") == ["dc-ae-f32-demo"]
    names, numbers = entries(table, "Autoencoder"), entries(table, "PSNR (dB) ↑")
    assert {n for n, number in zip(names, numbers, strict=True) if number.mark == "§"} == {
        "dc-ae-f64-demo", "sd-vae-f64-demo",
    }  # fmt: skip
    (note,) = (note for note in table.notes if note.startswith("§: worse than a control. 2 rows are: "))
    assert "dc-ae-f64-demo on photographs at 128 px (PSNR (dB): blur, mean-colour)" in note
    assert "<sup>§</sup>" in to_markdown(table) and r"\S" in FORMATS["tex"](table)


def test_a_control_of_a_latent_shape_is_compared_with_that_shape_alone(records):
    place = [r for r in records if r.cell.dataset == "photographs" and r.kind == "reconstruction"]
    facts = synthetic.autoencoder("patch-pca-f32c32", 32, 32, None, "controls", kind="python")
    table = build_table(2, [*place, synthetic.reconstruction("photographs", 128, facts, 0.95)])
    note = next(note for note in table.notes if note.startswith("§"))
    assert "dc-ae-f32-demo on photographs" in note and "sd-vae-f32-demo" in note
    assert "f64" not in note and "f8-demo" not in note


def test_random_features_stand_beside_no_number_of_the_paper(records):
    names = {column.name for column in build_table(1, records).columns}
    assert {name for name in names if "paper" in name} == {"Diffusion model in the paper", "Autoencoder in the paper",
                                                           "Dataset in the paper"}  # fmt: skip
    assert "FID w/o CFG, paper" in {column.name for column in build_table(1, synthetic.demo_records(False)).columns}


def test_a_model_on_other_data_stands_in_for_the_paper_s(records):
    assert "uvit-demo (stands in for UViT-S)" in to_markdown(build_table(3, records))
    same = build_table(3, of_paper(3, "DiT-XL", "ImageNet", 512, "sd-vae-f8-demo", 2))
    assert "dit-xl (DiT-XL)" in to_markdown(same)


def test_the_number_of_samples_is_in_the_head_of_the_column(records):
    assert "FID w/o CFG ↓ [random features] N 256" in to_markdown(build_table(1, records))


def test_weights_of_the_user_are_a_class_of_their_own(records):
    mine = [synthetic.elsewhere(r, supplied=True) for r in records if is_kind("reconstruction", "sd-vae-f8-demo")(r)]
    mine = changed(mine, lambda record: True, number_class="re-evaluated")
    assert [section.heading for section in build_table(2, mine).sections] == [SUPPLIED]
    assert set(frame(build_table(2, mine))["Number class"]) == {"supplied"}


def test_an_untrained_denoiser_stands_under_controls():
    benchmark = Benchmark.load("config/miniature.yaml")
    planned = [cell for kind, cell in planned_cells(benchmark) if kind == "generation" and 3 in cell.tables]
    fid = Value(value=50.0, standard_error=1.0, n=2000)
    values = {"fid_without_guidance": fid, "fid_with_guidance": fid}
    records = [synthetic.result("generation", vars(cell), values, number_class="reproduced") for cell in planned]
    table = build_table(3, records)
    under = {section.heading: " ".join(map(str, section.rows)) for section in table.sections}
    assert "uvit-untrained-mini" in under[CONTROLS] and "uvit-untrained-mini" not in under[REPRODUCED]
    classes = frame(table).groupby("Diffusion model")["Number class"].unique()
    assert list(classes["uvit-untrained-mini"]) == ["control"]


def test_a_row_of_several_seeds_is_their_mean_and_says_so(records):
    (one,) = (r for r in records if is_kind("reconstruction", "dc-ae-f32-demo")(r) and r.cell.dataset == "photographs")
    found = []
    for seed, psnr in enumerate((24.0, 25.0, 29.0)):
        value = one.values["psnr"].model_copy(update={"value": psnr, "standard_error": 0.3})
        record = synthetic.changed(one, values={**one.values, "psnr": value})
        name = "dc-ae-f32-demo" + (f"@seed{seed}" if seed else "")
        found.append(synthetic.elsewhere(record, autoencoder=name))
    pooled, _ = over_seeds(found, {})
    table = build_table(2, pooled)
    row = frame(table).iloc[0]
    assert (row["Autoencoder"], row["Seeds"], row["PSNR (dB)"], row["PSNR (dB), n"]) == ("dc-ae-f32-demo", 3, 26.0, 64)
    assert row["PSNR (dB), standard error"] == pytest.approx(math.hypot(0.3, math.sqrt(7 / 3)))
    assert "± one standard error over images and seeds" in table.caption
    assert "of one training each" in build_table(2, records).caption


def test_controls_and_ablations_are_never_bold(records):
    table = build_table(2, records)
    for section in table.sections:
        if section.heading in (ABLATIONS, CONTROLS):
            assert not any(entry.bold for row in section.rows for entry in row if isinstance(entry, Number))


# --- protocols ---


def test_a_record_of_another_protocol_is_marked_and_explained(records):
    other = {"inception": {"network": "inception-v3", "weights": "other"}, "reconstruction_images": 32}
    mixed = changed(records, is_kind("reconstruction", "dc-ae-f64-demo"), protocol=other, protocol_fingerprint="other")
    table = build_table(2, mixed)
    names = entries(table, "Autoencoder")
    marked = {name for name, number in zip(names, entries(table, "PSNR (dB) ↑"), strict=True) if number.mark}
    assert marked == {"dc-ae-f64-demo"}
    note = next(note for note in table.notes if note.startswith("a: "))
    assert "inception.weights other instead of random" in note
    assert "reconstruction_images 32 instead of 64" in note
    assert "<sup>a</sup>" in to_markdown(table)
    assert set(frame(table)["Protocols"]) == {"reconstruction other", "reconstruction reconstruction-protocol"}


def test_values_of_different_protocols_do_not_compete_for_bold(records):
    place = [r for r in records if r.cell.dataset == "photographs" and r.cell.spatial_compression == 32]
    assert bold_names(build_table(2, place), "PSNR (dB) ↑") == ["dc-ae-f32-demo"]
    mixed = changed(place, is_kind("reconstruction", "dc-ae-f32-demo"), protocol_fingerprint="other")
    assert bold_names(build_table(2, mixed), "PSNR (dB) ↑") == []


def test_equal_protocols_leave_no_mark(records):
    for table in build_tables(records).values():
        assert not any(note.startswith("a: ") for note in table.notes)


# --- what was left out ---


def test_a_speed_that_could_not_be_had_says_so_and_why(records):
    name, why = "inference_images_per_second", "needs more than 79.2 GiB"
    lacking = [
        synthetic.changed(record, values={k: v for k, v in record.values.items() if k != name}, excluded={name: why})
        if record.kind == "efficiency" and record.cell.autoencoder == "dc-ae-f64-demo"
        else record
        for record in records
    ]
    table = build_table(3, lacking)
    assert "left out" in to_markdown(table)
    assert any("dc-ae-f64-demo" in note and note.endswith(f": {why}.") for note in table.notes)
    assert "left out" not in to_markdown(build_table(3, records))


# --- what was not run ---


def test_without_records_every_published_row_is_not_run():
    published = read_published()
    for number, table in enumerate(build_tables([], "paper").values(), start=1):
        (section,) = table.sections
        assert section.heading == NOT_RUN
        assert len(section.rows) == len(published.rows(number))
        assert "not run" in to_markdown(table)


def test_a_cell_with_speed_but_no_quality_is_half_run(records):
    table = build_table(3, [record for record in records if record.kind == "efficiency"])
    assert {number.missing for number in entries(table, "FID w/o CFG ↓")} == {"not run"}
    assert all(number.value for number in entries(table, "Latency (ms) ↓"))


def test_planned_cells_without_records_are_not_run():
    records = synthetic.demo_records(False)
    cells = [record.cell for record in records if record.kind == "generation"]
    left = [record for record in records if record.cell.autoencoder != "dc-ae-f64-demo"]
    data = frame(build_table(1, left, planned=cells)).set_index("Autoencoder")
    assert data.loc["dc-ae-f64-demo", "section"] == NOT_RUN
    assert data.loc["dc-ae-f64-demo", "FID w/o CFG, paper"] == 67.30
    assert len(data) == len(cells)


def test_stand_ins_do_not_list_the_paper_s_rows_but_the_paper_s_own_data_do(records):
    assert NOT_RUN not in {section.heading for section in build_table(2, records).sections}
    real = [
        synthetic.elsewhere(record, dataset_paper_name="FFHQ", resolution=1024)
        for record in records
        if record.kind == "reconstruction" and record.cell.dataset == "photographs"
    ]
    table = build_table(2, real)
    left = {section.heading: section.rows for section in table.sections}[NOT_RUN]
    # 16 published rows, of which SD-VAE-f64c128 and DC-AE-f64 at FFHQ 1024 are filled.
    assert len(left) == 14
    assert not any("other data and resolution" in note for note in table.notes)


def test_stand_ins_are_called_so(records):
    notes = " ".join(build_table(2, records).notes)
    assert "Beside scenes at 64 px stand the paper's numbers for ImageNet at 256 px" in notes


def test_two_records_of_one_cell_are_an_error(records):
    with pytest.raises(ValueError, match=r"two generation records of one cell.*dc-ae-f32-demo"):
        build_tables([*records, next(filter(is_kind("generation", "dc-ae-f32-demo"), records))])


def test_speed_on_two_devices_gives_two_rows_each_with_its_own_ratio(records):
    again = changed(
        [record for record in records if record.kind == "efficiency"], lambda record: True, device={"name": "Other GPU"}
    )
    data = frame(build_table(3, [*records, *again]))
    assert set(data["Device"]) == {"Test CPU", "Other GPU"}
    assert len(data) == 2 * len(again)
    assert (data["Training (images/s), ratio to f8 p2"].dropna() >= 1.0).all()


# --- controls ---


def test_sound_controls_are_noted_below(records):
    table = build_table(2, records)
    assert table.notes[0].startswith("Controls land where they belong")
    assert "BROKEN" not in table.caption


def test_broken_controls_are_loud_and_above(records):
    def value(record):
        return record.values["lpips"].model_copy(update={"value": 0.2})

    spoilt = [
        synthetic.changed(r, values={**r.values, "lpips": value(r)}) if r.cell.autoencoder == "identity" else r
        for r in records
    ]
    table = build_table(2, spoilt)
    assert table.caption.startswith("CONTROLS BROKEN")
    assert "identity on scenes 64 px: expected lpips 0, found 0.2" in table.caption


# --- files ---


def test_files_are_equal_to_the_byte_and_left_alone_if_unchanged(records, tmp_path):
    paths = write_tables(build_tables(records, "demo"), tmp_path)
    assert sorted(path.name for path in paths) == sorted(f"table{i}.{end}" for i in range(1, 6) for end in FORMATS)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    write_tables(build_tables(list(records), "demo"), tmp_path)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_tables_do_not_depend_on_when_a_record_was_made(records):
    later = [
        synthetic.changed(
            record,
            provenance=record.record.provenance.model_copy(update={"created": "2030-01-01", "wall_seconds": 9.0}),
        )
        for record in records
    ]
    assert build_tables(later) == build_tables(records)


def test_tables_do_not_depend_on_records_read_from_files(records, tmp_path):
    read = []
    for index, record in enumerate(records):
        record.record.write(tmp_path / f"{index}.json")
        read.append(replace(record, record=Record.read(tmp_path / f"{index}.json")))
    assert build_tables(read) == build_tables(records)


def test_below_samples_stands_the_fid_that_they_can_reach(records):
    def bounded(result, floor: float):
        values = {
            "fid_of_real_images": Value(value=1.5, n=2000, standard_error=0.1),
            "fid_of_autoencoded_images": Value(value=floor, n=2000, standard_error=0.5),
        }
        return synthetic.changed(result, values=result.record.values | values)

    floors = {"sd-vae-f8-demo": 20.0, "dc-ae-f32-demo": 12.25}
    names = ("sd-vae-f8-demo", 2), ("dc-ae-f32-demo", 1)
    results = [each for name in names for each in of_paper(3, "UViT-S", "scenes", 128, *name)]
    assert not any("real images" in note for note in build_table(3, results).notes)
    results = [bounded(each, floors[each.cell.autoencoder]) if each.kind == "generation" else each for each in results]
    (note,) = [note for note in build_table(3, results).notes if "real images" in note]
    assert "2,000 real images that are not in the reference: 1.50 ± 0.10;" in note
    assert "sd-vae-f8-demo 20.00 ± 0.50, dc-ae-f32-demo 12.25 ± 0.50." in note
