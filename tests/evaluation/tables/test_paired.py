# SPDX-License-Identifier: Apache-2.0
"""The table of pairs, and bold that is decided by pairs."""

import io

import numpy as np
import pandas
import pytest

from dcae.benchmark.record import Measured, Value
from evaluation.tables.formats import Number, to_csv
from evaluation.tables.paired import build_paired
from evaluation.tables.paper import build_table
from evaluation.tables.protocols import build_protocols
from evaluation.tables.seeds import over_seeds
from tests.evaluation import synthetic

NAMES = ("dc-ae-f32-demo", "sd-vae-f32-demo")  # of one latent shape


def near_records(gap: float = 0.1):
    """Two autoencoders at one place whose PSNR differs by less than its error, and their rows."""
    chosen = [
        record
        for record in synthetic.demo_records()
        if record.kind == "reconstruction"
        and record.cell.autoencoder in NAMES
        and (record.cell.dataset, record.cell.resolution) == ("scenes", 64)
    ]
    generator = np.random.default_rng(0)
    images = generator.normal(26, 4, 64)
    records, rows = [], {}
    for position, record in enumerate(chosen):
        psnr = images + gap * position + generator.normal(0, 0.1, 64)
        error = float(psnr.std(ddof=1) / 8)
        psnr_value = Value(value=float(psnr.mean()), n=64, standard_error=error, unit="dB")
        records.append(synthetic.changed(record, values={**record.values, "psnr": psnr_value}))
        rows[record.cell.identity] = {"image": np.arange(64), "psnr": psnr}
    return records, rows


def csv(table) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(to_csv(table)))


def test_bold_is_decided_by_pairs_where_the_rows_are_there():
    records, rows = near_records()
    better = max(records, key=lambda record: record.values["psnr"].value).cell.autoencoder
    table, without = build_table(2, records, per_image=rows), build_table(2, records)

    def bold(of) -> list[str]:
        column = [c.name for c in of.columns].index("PSNR (dB)")
        name = [c.name for c in of.columns].index("Autoencoder")
        entries = [row for section in of.sections for row in section.rows]
        return [row[name] for row in entries if getattr(row[column], "bold", False)]

    assert len(bold(table)) == 1 and bold(table)[0].startswith(better)
    assert bold(without) == []  # a difference of 0.1 dB beside errors of 0.5 dB
    assert "paired comparison over the same images" in table.caption


def test_equals_are_not_bold_however_many_images_there_are():
    records, rows = near_records(gap=0.0)
    entries = [row for section in build_table(2, records, per_image=rows).sections for row in section.rows]
    assert not any(getattr(entry, "bold", False) for row in entries for entry in row[:8])


def matrix(table, metric: str) -> dict[tuple[str, str], Number | str]:
    """The entries of the first matrix of a metric, by the names of row and column."""
    section = next(each for each in table.sections if f": {metric}" in each.heading)
    names = [row[0].partition(" ")[2] for row in section.rows]
    return {(a, b): row[i + 1] for a, row in zip(names, section.rows, strict=True) for i, b in enumerate(names)}


def test_a_matrix_has_every_two_autoencoders_of_a_place_and_no_control():
    records, rows = near_records()
    table = build_paired(synthetic.demo_records(), {})
    autoencoders = sum(cell["group"] != "controls" for cell, _ in synthetic.QUALITIES)
    assert len(table.sections) == len(synthetic.PLACES) * 4
    assert all(len(section.rows) == autoencoders for section in table.sections)
    assert not any(
        name in row[0] for section in table.sections for row in section.rows for name in ("identity", "blur")
    )
    table = build_paired(records, rows)
    found = matrix(table, "PSNR")
    values = {record.cell.autoencoder: record.values["psnr"].value for record in records}
    better, worse = sorted(values, key=values.get, reverse=True)
    assert found[better, worse].value == pytest.approx(values[better] - values[worse])
    assert found[worse, better].value == -found[better, worse].value
    assert (found[better, worse].bold, found[worse, better].bold) == (True, False)
    assert set(matrix(table, "SSIM").values()) == {"", "–"}  # its rows are missing


def test_equals_are_marked():
    records, rows = near_records(gap=0.0)
    assert {each.mark for each in matrix(build_paired(records, rows), "PSNR").values() if each} == {"="}


def with_rfid(records, *sizes: float):
    draw = np.random.default_rng(0).normal(0, 0.01, 64)
    return [
        synthetic.changed(
            record,
            values={**record.values, "rfid": Value(value=size, n=64, leave_group_out=list(size + draw))},
        )
        for record, size in zip(records, sizes, strict=True)
    ]


def test_rfid_is_compared_by_groups_without_any_rows():
    found = matrix(build_paired(with_rfid(near_records()[0], 10.3, 11.3), {}), "rFID")
    one, other = dict.fromkeys(name for name, _ in found)
    assert found[one, other].value == pytest.approx(-1) and found[one, other].bold


def test_the_interval_of_a_pair_covers_seeds_where_there_are_several():
    pair = near_records()[0]
    seeds = [
        synthetic.elsewhere(record, autoencoder=record.cell.autoencoder + (f"@seed{seed}" if seed else ""))
        for seed, shift in enumerate((-2.0, 0.0, 2.0))
        for record in with_rfid(pair, 10.3 + shift, 11.3 - shift)
    ]
    pooled, rows = over_seeds(seeds, {})
    found = [each for each in matrix(build_paired(pooled, rows), "rFID").values() if each]
    assert [abs(each.value) for each in found] == pytest.approx([1, 1])
    assert {(each.mark, each.bold) for each in found} == {("=", False)}


def test_numbers_of_two_protocols_are_never_compared():
    records, rows = near_records()
    records[1] = synthetic.changed(records[1], protocol_fingerprint="another")
    assert set(matrix(build_paired(records, rows), "PSNR").values()) == {"", "–"}


def test_the_work_grows_with_what_is_shown(monkeypatch):
    from evaluation.tables import paired

    (record, _), _ = near_records()
    many = [
        synthetic.elsewhere(synthetic.changed(with_rfid([record], 10.0 + i)[0]), autoencoder=f"dc-ae-{i}")
        for i in range(400)
    ]
    calls = []
    monkeypatch.setattr(paired, "compare_results", lambda *arguments: calls.append(arguments))
    table = build_paired(many, {})
    assert len(table.sections[0].rows) == paired.MOST_COMPARED
    assert len(calls) == 4 * paired.MOST_COMPARED * (paired.MOST_COMPARED - 1) // 2


def test_protocols_of_one_pass_stand_side_by_side_under_their_names():
    records, _ = near_records()
    main = {**records[0].record.protocol, "name": "dc-ae"}
    ldm = Measured(
        protocol={"name": "ldm"},
        protocol_fingerprint="of-ldm",
        values={"rfid": Value(value=0.9, n=64), "lpips": Value(value=0.4, n=64)},
        excluded={"rfid_infinity": "needs at least 25000 images, there are 64"},
    )
    records = [synthetic.changed(record, protocol=main, further={"ldm": ldm}) for record in records]
    table = build_protocols(records, "demo")
    frame = csv(table)
    assert list(frame["rFID, ldm"]) == [0.9, 0.9]
    assert list(frame["rFID, dc-ae [random features]"]) == [record.values["rfid"].value for record in records]
    assert "PSNR (dB), ldm" not in frame
    assert any("Left out in 2 cells: rfid_infinity of ldm: needs at least 25000 images" in note for note in table.notes)
    other = ldm.model_copy(update={"protocol_fingerprint": "another"})
    mixed = build_protocols([records[0], synthetic.changed(records[1], further={"ldm": other})])
    assert any("DIFFERENT PROTOCOLS" in note and note.startswith("ldm") for note in mixed.notes)
