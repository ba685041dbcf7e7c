# SPDX-License-Identifier: Apache-2.0
"""The table of protocols of generation: one row for each model, one column for each metric, setting and protocol."""

from __future__ import annotations

import io

import pandas

from dcae.benchmark.record import Measured, Record, Value
from evaluation.tables.formats import to_csv
from evaluation.tables.protocols import build_protocols
from tests.evaluation.synthetic import PROVENANCE


def record(autoencoder: str, fid: float, of_adm: float) -> Record:
    adm = Measured(
        protocol={"name": "adm"}, protocol_fingerprint="b", values={"fid_with_guidance": Value(value=of_adm, n=50)}
    )
    cell = {"dataset": "scenes", "resolution": 64, "autoencoder": autoencoder, "diffusion": "dit", "patch_size": 2}
    values = {"fid_with_guidance": Value(value=fid, n=50), "clip_score_with_guidance": Value(value=20, n=50)}
    return Record(
        kind="generation", number_class="reproduced", cell=cell, values=values, protocol={"name": "dc-ae"},
        protocol_fingerprint="a", further={"adm": adm}, device={}, provenance=PROVENANCE,
    )  # fmt: skip


def test_samples_stand_under_every_protocol_beside_their_models():
    table = build_protocols([record("a", 3, 4), record("b", 5, 6)], "mine", "generation")
    frame = pandas.read_csv(io.StringIO(to_csv(table)))
    assert list(frame["FID w/ CFG, dc-ae"]) == [3, 5] and list(frame["FID w/ CFG, adm"]) == [4, 6]
    assert list(frame["Autoencoder"]) == ["a", "b"] and set(frame["Diffusion model"]) == {"dit p2"}
    assert "CLIP score w/ CFG, adm" not in frame and "FID w/o CFG, dc-ae" not in frame
    assert "same samples" in table.caption
    assert build_protocols([record("a", 3, 4)], "mine").sections == []
