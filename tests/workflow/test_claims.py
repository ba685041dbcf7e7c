# SPDX-License-Identifier: Apache-2.0
"""``dcae claims`` on a finished run: verdicts from its records, the same as in its tables."""

import csv
import json

from workflow import layout

CLAIM = "The third phase leaves the latent space as it is"


def test_the_third_phase_of_a_real_run_leaves_the_encoder_alone(finished):
    def verdicts() -> dict[str, str]:
        finished.run("dcae", "tables", "config/tiny.yaml")
        with (finished.folder / layout.file("tiny", layout.TABLE, name="claims", form="csv")).open() as lines:
            return {row["Statement"]: row["Verdict on the claim"] for row in csv.DictReader(lines)}

    def printed() -> list[str]:
        return finished.run("dcae", "claims", "config/tiny.yaml").stdout.splitlines()

    assert f"held        {CLAIM} (section 3.2)" in printed()
    assert "1 held, 0 not held, 0 undecided" in printed()[-1]
    assert verdicts()[CLAIM] == "held"
    cell = {"dataset": "scenes-tiny", "resolution": 64, "autoencoder": "dc-ae-tiny"}
    path = finished.folder / layout.file("tiny", layout.RECONSTRUCTION_RECORD, **cell)
    record = json.loads(path.read_text())
    assert record["values"]["encoder_tensors_changed"]["value"] == 0
    record["values"]["encoder_tensors_changed"]["value"] = 3
    path.write_text(json.dumps(record))
    assert verdicts()[CLAIM] == "not held"
    assert f"not held    {CLAIM} (section 3.2)" in printed()
