# SPDX-License-Identifier: Apache-2.0
"""Several processes compute what one computes, and go on exactly where they were stopped."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dcae.diffusion.models.checkpoint import load_denoiser
from dcae.training import gan
from tests.training import parallel, tiny

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """What two processes wrote into a folder and onto the screen."""

    folder: Path
    outputs: list[str]


def start_process(rank: int, port: int, folder: Path) -> subprocess.Popen:
    """One of two processes, as torchrun would start it."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    environment = {**os.environ, **{name: str(value) for name, value in ranks.items()}}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("parallel.py")), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}, text=True, **pipes)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("two")
    parallel.prepare_captions(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start_process(rank, port, folder) for rank in (0, 1)]
    outputs, errors = zip(*[process.communicate(timeout=600) for process in processes], strict=True)
    assert [process.returncode for process in processes] == [0, 0], errors
    return Finished(folder, list(outputs))


def curves(folder: Path) -> list[dict[str, float]]:
    """The log of a training, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


@pytest.mark.parametrize("phase", ["plain", "adversarial"])
def test_two_processes_have_the_loss_curve_of_one(two, tmp_path, phase, monkeypatch):
    monkeypatch.setattr(gan, "PatchDiscriminator", parallel.DiscriminatorWithoutBatchNorm)
    one = tiny.train(tmp_path, parallel.ENTRY, parallel.RECIPE, phase)
    ours, theirs = curves(two.folder / phase), curves(one)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, rel=0, abs=1e-4)
    one, two = tiny.weights(one), tiny.weights(two.folder / phase)
    for name in one:
        # Sums over a batch are added in another order, and AdamW's first steps blow up the rounding of tiny gradients.
        torch.testing.assert_close(
            one[name], two[name], rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name} {text}"
        )


def test_two_processes_train_on_captions_as_one_does(two, tmp_path):
    """With parts of a batch, recomputed activations, clipped gradients, dropped captions and an average."""
    one = parallel.train_on_captions(two.folder, tmp_path)
    ours, theirs = curves(two.folder / "captions"), curves(one)
    assert len(ours) == len(theirs) == parallel.STEPS
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, rel=0, abs=1e-4)
    one, two = (load_denoiser(folder).state_dict() for folder in (one, two.folder / "captions"))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)  # rounding, as above


def test_processes_stopped_by_a_signal_to_one_of_them_go_on_to_the_same_bits(two):
    """With all that remembers and draws: two optimisers and an average; parts and recomputed activations."""
    undisturbed, resumed = (tiny.weights(each / "everything") for each in (two.folder, two.folder / "stopped"))
    assert f"stopped by a signal, saved at step {parallel.STOPPED_AT}/{parallel.STEPS}" in two.outputs[0]
    assert [name for name in undisturbed if not torch.equal(undisturbed[name], resumed[name])] == []


def test_recomputed_activations_give_the_same_bits(two):
    kept, recomputed = (tiny.weights(two.folder / phase) for phase in ("plain", "recomputed"))
    assert [name for name in kept if not torch.equal(kept[name], recomputed[name])] == []


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_same_words(two):
    told = [line for output in two.outputs for line in output.splitlines() if "not finite" in line]
    assert len(told) == 2 and len(set(told)) == 1
    assert re.match(
        r"tiny-dc-ae plain: loss is not finite at step 4 .*good checkpoint is .*/checkpoint-00000002\.pt", told[0]
    )
    (last,) = (two.folder / "diverged").glob("plain.state/*/checkpoint-*.pt")
    assert str(last) in told[0]


def test_only_the_first_process_tells_of_the_training(two):
    assert two.outputs[0].count("tiny-dc-ae adversarial  step 1/4") == 1
    assert "step 1/" not in two.outputs[1]


def test_batchnorm_in_training_is_refused_in_every_process(two):
    words = "several processes share the statistics of BatchNorm on GPUs only"
    assert [words in output for output in two.outputs] == [True, True]
