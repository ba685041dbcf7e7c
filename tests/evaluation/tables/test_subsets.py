# SPDX-License-Identifier: Apache-2.0
"""The table of subsets: every set of images in columns of its own, with its number, and what was left out."""

from __future__ import annotations

from dcae.benchmark.record import Measured, Record, Value
from evaluation.tables.formats import Number, to_csv, to_html, to_markdown
from evaluation.tables.subsets import build_subsets
from tests.evaluation.synthetic import PROVENANCE

SUBSETS = {"face": {"detector": "yunet"}, "text": {"detector": "db"}}
MISSING = "missing weights 'db': get them"


def values(whole: float, **face: float) -> dict[str, Value]:
    found = {"psnr": Value(value=whole, n=100, standard_error=0.5, unit="dB")}
    found |= {"lpips": Value(value=0.1, n=100, standard_error=0.01, random_features=True)}
    return found | {f"{name}_face": Value(value=value, n=7, standard_error=1.0) for name, value in face.items()}


def record(autoencoder: str, **changes) -> Record:
    content = {
        "kind": "reconstruction", "number_class": "reproduced",
        "cell": {"dataset": "photographs", "resolution": 64, "autoencoder": autoencoder},
        "values": values(30, psnr=25.5), "protocol": {"name": "faces", "subsets": SUBSETS},
        "protocol_fingerprint": "a", "excluded": {"psnr_text": MISSING, "ssim_text": MISSING, "kid": "too few"},
        "device": {}, "provenance": PROVENANCE,
    }  # fmt: skip
    return Record(**content | changes)


def test_each_set_of_images_has_its_columns_and_its_number():
    table = build_subsets([record("dc-ae"), record("sd-vae", values=values(31, psnr=20))], "mine")
    (section,) = table.sections
    titles = [column.title for column in table.columns]
    assert section.heading == "photographs at 64 px"
    first = dict(zip(titles, section.rows[0], strict=True))
    assert first["PSNR (dB) ↑ all"] == Number(30, 2, standard_error=0.5, n=100)
    assert first["PSNR (dB) ↑ face"] == Number(25.5, 2, standard_error=1.0, n=7)
    assert first["PSNR (dB) ↑ text"].value is None and first["PSNR (dB) ↑ text"].missing == "–"
    assert "LPIPS ↓ face [random features]" in titles
    assert (first["N all"], first["N face"], first["N text"]) == ("100", "7", "–")
    assert "25.50 ± 1.00" in to_markdown(table) and "25.5,1.0,7" in to_csv(table) and "face" in to_html(table)


def test_what_could_not_be_had_is_counted():
    assert build_subsets([record("a"), record("b")]).notes == [f"Left out in 2 cells: images with text: {MISSING}."]


def test_protocols_without_subsets_have_no_rows_and_further_ones_have():
    further = {"faces": Measured(protocol={"name": "faces", "subsets": SUBSETS}, protocol_fingerprint="b",
                                 values=values(29, psnr=24))}  # fmt: skip
    plain = {"protocol": {"name": "plain"}, "excluded": {}}
    assert build_subsets([record("a", **plain)]).sections == []
    (section,) = build_subsets([record("a", **plain, further=further)]).sections
    assert section.rows[0][:2] == ["a", "faces"]
    assert section.rows[0][2].value == 29
