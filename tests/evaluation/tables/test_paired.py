# SPDX-License-Identifier: Apache-2.0
"""The table of pairs, and bold that is decided by pairs."""

import io

import numpy as np
import pandas
import pytest

from dcae.benchmark.record import Measured, Value
from evaluation.tables.formats import to_csv
from evaluation.tables.paired import build_paired
from evaluation.tables.paper import build_table
from evaluation.tables.protocols import build_protocols
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


def test_every_two_autoencoders_of_a_place_are_compared_and_controls_are_not():
    records, rows = near_records()
    table = csv(build_paired(synthetic.demo_records(), {}))
    autoencoders = sum(group != "controls" for group in (cell["group"] for cell, _ in synthetic.QUALITIES))
    assert len(table) == len(synthetic.PLACES) * autoencoders * (autoencoders - 1) // 2
    assert not {"identity", "blur"} & {*table["A"], *table["B"]}
    pair = csv(build_paired(records, rows)).iloc[0]
    difference = pair["PSNR (dB), A − B"]
    assert pair["PSNR (dB), low"] < difference < pair["PSNR (dB), high"]
    assert pair["PSNR (dB), better"] == ("A" if difference > 0 else "B")
    assert pair["PSNR (dB), A − B, n"] == 64
    assert pandas.isna(pair["SSIM, better"])  # its rows are missing


def test_rfid_is_compared_by_groups_without_any_rows():
    records, _ = near_records()
    changed = []
    for position, record in enumerate(records):
        left_out = [10 + position + 0.01 * group for group in range(64)]
        value = Value(value=10.3 + position, n=64, standard_error=2.0, random_features=True, leave_group_out=left_out)
        changed.append(synthetic.changed(record, values={**record.values, "rfid": value}))
    pair = csv(build_paired(changed, {})).iloc[0]
    assert pair["rFID [random features], A − B"] == pytest.approx(-1)
    assert pair["rFID [random features], better"] == "A"


def test_numbers_of_two_protocols_are_never_compared():
    records, rows = near_records()
    records[1] = synthetic.changed(records[1], protocol_fingerprint="another")
    pair = csv(build_paired(records, rows)).iloc[0]
    assert pandas.isna(pair["PSNR (dB), better"])


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
