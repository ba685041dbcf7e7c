# SPDX-License-Identifier: Apache-2.0
"""The page of a run with invented values, sample images and a training log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dcae.benchmark.benchmark import Benchmark
from dcae.benchmark.record import Value
from evaluation.page.page import build_page
from evaluation.quality.image_grid import write_grid
from evaluation.tables.rows import Result
from tests.evaluation import synthetic

DEMO = Path(__file__).parents[3] / "config" / "demo.yaml"
IMAGES = 3
PROMPTS = ["face", "flowers", "a <b> & c"]


@dataclass(frozen=True)
class Run:
    """A benchmark, its results and the folder of their files."""

    benchmark: Benchmark
    results: list[Result]
    folder: Path

    def grid_of(self, result: Result) -> Path:
        return self.folder / result.kind / f"{'-'.join(map(str, result.cell.identity))}.png"

    def page(self, results: list[Result] | None = None, problems: list[str] | None = None) -> str:
        logs = {"a training": self.folder / "log.jsonl", "one that has not begun": self.folder / "missing.jsonl"}
        results = self.results if results is None else results
        return build_page(self.benchmark, results, {}, self.grid_of, logs, problems)


def supplied() -> Result:
    """A user's own autoencoder, better than most."""
    facts = synthetic.autoencoder("own", 16, 16, None, kind="python")
    result = synthetic.reconstruction("scenes", 64, facts, 0.85)
    kid = {"kid": Value(value=0.25, n=64, standard_error=0.01)}
    further = {"other": {"protocol": {"name": "other"}, "protocol_fingerprint": "o", "values": kid}}
    record = type(result.record).model_validate(result.record.model_dump() | {"further": further})
    record = record.model_copy(update={"number_class": "re-evaluated", "excluded": {"rfid_infinity": "too few images"}})
    return synthetic.elsewhere(Result(result.cell, record), trained=False, supplied=True)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("page")
    records = [
        synthetic.changed(each, prompts=PROMPTS) if each.kind == "generation" else each
        for each in synthetic.demo_records(random_features=False)
    ]
    found = Run(Benchmark.load(DEMO), [*records, supplied()], folder)
    noise = np.random.default_rng(0)
    for result in found.results:
        if result.kind != "efficiency" and result.cell.dataset == "scenes":
            side = result.cell.resolution
            blocks = noise.integers(0, 256, (1, IMAGES, 3, 4, 4), np.uint8)
            originals = blocks.repeat(side // 4, axis=-1).repeat(side // 4, axis=-2)
            write_grid(np.concatenate([originals, 255 - originals]), found.grid_of(result))
    lines = [{"step": step, "loss": 1 / step, "learning_rate": 0.1} for step in range(1, 301)]
    lines.insert(150, {"step": 150, "validation_psnr": 20.5})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return found


@pytest.fixture(scope="session")
def page(run) -> str:
    return run.page()
