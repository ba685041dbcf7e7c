# SPDX-License-Identifier: Apache-2.0
"""Tables of protocols: one row for each model, one column for each metric and protocol or subset of images."""

from __future__ import annotations

import io

import pandas

from dcae.benchmark.benchmark import ReconstructionCell
from dcae.benchmark.record import Measured, Record, Value
from evaluation.tables.formats import Number, to_csv, to_html, to_markdown
from evaluation.tables.protocols import build_protocols, build_subsets
from evaluation.tables.rows import Result, TableCell
from tests.evaluation.synthetic import PROVENANCE


def generated(autoencoder: str, fid: float, of_adm: float) -> Result:
    adm = Measured(
        protocol={"name": "adm"}, protocol_fingerprint="b", values={"fid_with_guidance": Value(value=of_adm, n=50)}
    )
    cell = {"dataset": "scenes", "resolution": 64, "autoencoder": autoencoder, "diffusion": "dit", "patch_size": 2}
    values = {"fid_with_guidance": Value(value=fid, n=50), "clip_score_with_guidance": Value(value=20, n=50)}
    record = Record(
        kind="generation", number_class="reproduced", cell=cell, values=values, protocol={"name": "dc-ae"},
        protocol_fingerprint="a", further={"adm": adm}, device={}, provenance=PROVENANCE,
    )  # fmt: skip
    return Result(TableCell(**cell), record)


def test_samples_stand_under_every_protocol_beside_their_models():
    table = build_protocols([generated("a", 3, 4), generated("b", 5, 6)], "mine", "generation")
    frame = pandas.read_csv(io.StringIO(to_csv(table)))
    assert list(frame["FID w/ CFG, dc-ae"]) == [3, 5] and list(frame["FID w/ CFG, adm"]) == [4, 6]
    assert list(frame["Autoencoder"]) == ["a", "b"] and set(frame["Diffusion model"]) == {"dit p2"}
    assert "CLIP score w/ CFG, adm" not in frame and "FID w/o CFG, dc-ae" not in frame
    assert "same samples" in table.caption
    assert build_protocols([generated("a", 3, 4)], "mine").sections == []


# --- subsets ---

SUBSETS = {"face": {"detector": "yunet"}, "text": {"detector": "db"}}
MISSING = "missing weights 'db': get them"


def values(whole: float, **face: float) -> dict[str, Value]:
    found = {"psnr": Value(value=whole, n=100, standard_error=0.5, unit="dB")}
    found |= {"lpips": Value(value=0.1, n=100, standard_error=0.01, random_features=True)}
    return found | {f"{name}_face": Value(value=value, n=7, standard_error=1.0) for name, value in face.items()}


def reconstructed(autoencoder: str, **changes) -> Result:
    cell = ReconstructionCell("photographs", 64, autoencoder)
    content = {
        "kind": "reconstruction", "number_class": "reproduced",
        "cell": vars(cell),
        "values": values(30, psnr=25.5), "protocol": {"name": "faces", "subsets": SUBSETS},
        "protocol_fingerprint": "a", "excluded": {"psnr_text": MISSING, "ssim_text": MISSING, "kid": "too few"},
        "device": {}, "provenance": PROVENANCE,
    }  # fmt: skip
    return Result(TableCell(**vars(cell)), Record(**content | changes))


def test_each_set_of_images_has_its_columns_and_its_number():
    table = build_subsets([reconstructed("dc-ae"), reconstructed("sd-vae", values=values(31, psnr=20))], "mine")
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
    assert build_subsets([reconstructed("a"), reconstructed("b")]).notes == [
        f"Left out in 2 cells: images with text: {MISSING}."
    ]


def test_protocols_without_subsets_have_no_rows_and_further_ones_have():
    further = {"faces": Measured(protocol={"name": "faces", "subsets": SUBSETS}, protocol_fingerprint="b",
                                 values=values(29, psnr=24))}  # fmt: skip
    plain = {"protocol": {"name": "plain"}, "excluded": {}}
    assert build_subsets([reconstructed("a", **plain)]).sections == []
    (section,) = build_subsets([reconstructed("a", **plain, further=further)]).sections
    assert section.rows[0][:2] == ["a", "faces"]
    assert section.rows[0][2].value == 29
