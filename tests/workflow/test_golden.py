# SPDX-License-Identifier: Apache-2.0
"""Golden results: numbers of a tiny run of each step, which change only together with the step's results version.

``DCAE_UPDATE_GOLDEN=1 pytest tests/workflow/test_golden.py`` writes ``golden.json`` anew, for steps whose
``RESULTS_VERSION`` was raised and for new numbers; it refuses changed numbers of an unchanged version.

Tolerances hold on any machine: 1e-4 of a number for float32 sums in another order; 1e-2 for values that a rounding to
8 bits or a feature network of random weights amplifies.
"""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.workflow.conftest import Clone
from workflow import layout
from workflow.staleness.steps import STEPS, Step

GOLDEN = Path(__file__).with_name("golden.json")
CELL = {"dataset": "scenes-tiny", "resolution": 64, "autoencoder": "dc-ae-tiny"}
MODEL = CELL | {"diffusion": "uvit-tiny", "patch_size": 1}
TOLERANCE = {"evaluate": 1e-2, "generate": 1e-2, "reference": 1e-2}
DEFAULT_TOLERANCE = 1e-4

Numbers = dict[str, float | str]


def file(clone: Clone, pattern: str, **names: str | int) -> Path:
    return clone.folder / layout.file("tiny", pattern, **names)


def losses(folder: Path) -> Numbers:
    """Losses of steps 1, 2 and 4."""
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines if "loss" in line}
    return {f"loss of step {step}": found[step] for step in (1, 2, 4)}


def statistics(tensors: dict[str, np.ndarray]) -> Numbers:
    """Mean and mean square of every tensor of a file."""
    found: Numbers = {}
    for name, tensor in sorted(tensors.items()):
        if tensor.size:
            values = tensor.astype(np.float64)
            found |= {f"{name} mean square": float(np.square(values).mean()), f"{name} max": float(values.max())}
    return found


def values(record: Path, *names: str) -> Numbers:
    found = json.loads(record.read_text())["values"]
    return {name: found[name]["value"] for name in names}


def autoencoder_losses(clone: Clone) -> Numbers:
    phases = ("low-resolution-full", "low-resolution-local-refinement")
    folders = {phase: file(clone, layout.AUTOENCODER, autoencoder="dc-ae-tiny", phase=phase) for phase in phases}
    return {f"{phase} {name}": loss for phase, folder in folders.items() for name, loss in losses(folder).items()}


def latents(clone: Clone) -> Numbers:
    return statistics(load_file(sorted(file(clone, layout.LATENTS, **CELL).glob("*.safetensors"))[0]))


def captions(clone: Clone) -> Numbers:
    clone.run(
        "dcae", "captions", "config/tiny.yaml", "--diffusion", "pixart-tiny", "--dataset", "scenes-tiny",
        "--split", "train", "--output", "captions",
    )  # fmt: skip
    return statistics(load_file(sorted((clone.folder / "captions").glob("*.safetensors"))[0]))


def reference(clone: Clone) -> Numbers:
    names = {"purpose": "reconstruction", "dataset": "scenes-tiny", "resolution": 64}
    return statistics(load_file(file(clone, layout.REFERENCE, **names)))


def tables(clone: Clone) -> Numbers:
    """Columns of the paper's tables."""
    found: Numbers = {}
    for name in ("table1", "table2", "table3", "table4", "table5"):
        with file(clone, layout.TABLE, name=name, form="csv").open() as lines:
            found[f"{name} columns"] = " | ".join(next(csv.reader(lines)))
    return found


MEASURED = {
    "train_autoencoder": autoencoder_losses,
    "encode": latents,
    "captions": captions,
    "train_denoiser": lambda clone: losses(file(clone, layout.DENOISER, **MODEL)),
    "reference": reference,
    "evaluate": lambda clone: values(
        file(clone, layout.RECONSTRUCTION_RECORD, **CELL),
        "rfid",
        "psnr",
        "ssim",
        "lpips",
        "precision",
        "recall",
        "latent_std",
        "latent_channel_spread",
        "latent_effective_rank",
        "latent_flip_error",
        "psnr_noise_0.2",
    ),
    "generate": lambda clone: values(
        file(clone, layout.GENERATION_RECORD, **MODEL),
        *(f"{name}_{setting}_guidance" for name in ("fid", "clip_score") for setting in ("without", "with")),
    ),
    "profile": lambda clone: values(file(clone, layout.EFFICIENCY_RECORD, **MODEL), "parameters", "gmacs"),
    "tables": tables,
    "figures": lambda clone: {
        "names": " ".join(sorted(path.name for path in file(clone, layout.FIGURES).glob("*.png")))
    },
    "page": lambda clone: {
        "sections": " ".join(re.findall(r'<section id="(\w+)"', file(clone, layout.PAGE).read_text(encoding="utf-8")))
    },
}
"""Step to the numbers of a tiny run of it."""


def differences(step: Step, found: Numbers, golden: Numbers) -> list[str]:
    tolerance = TOLERANCE.get(step.name, DEFAULT_TOLERANCE)
    wrong = [f"{name}: not measured any more" for name in golden if name not in found]
    for name, value in found.items():
        if name not in golden:
            wrong.append(f"{name}: {value} is new")
        elif value != (golden[name] if isinstance(value, str) else pytest.approx(golden[name], rel=tolerance)):
            wrong.append(f"{name}: {value}, golden {golden[name]}")
    return wrong


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_results_change_only_with_the_version(finished, step):
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    golden = stored.get(step.name, {"version": 0, "numbers": {}})
    found = MEASURED[step.name](finished)
    assert found, f"{step.name} has no golden numbers"
    wrong = differences(step, found, golden["numbers"])
    if golden["version"] == step.version:
        assert not wrong, (
            f"results of {step.name} changed. If this is meant, raise RESULTS_VERSION in {step.module}, say there what "
            f"changed, and run DCAE_UPDATE_GOLDEN=1 pytest {GOLDEN.parent.name}/test_golden.py. {'; '.join(wrong)}"
        )
    elif os.environ.get("DCAE_UPDATE_GOLDEN"):
        stored[step.name] = {"version": step.version, "numbers": found}
        GOLDEN.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
    else:
        pytest.fail(
            f"RESULTS_VERSION in {step.module} is {step.version}, golden.json has {golden['version']}: run "
            "DCAE_UPDATE_GOLDEN=1 pytest tests/workflow/test_golden.py"
        )
