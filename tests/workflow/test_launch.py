# SPDX-License-Identifier: Apache-2.0
"""How a training is started, on one GPU, many, or many nodes; and that it is the same training."""

from __future__ import annotations

import json
import re

import pytest

from tests.workflow.conftest import ROOT, TINY, Clone, copy_repository
from workflow.commands import options
from workflow.jobs import Jobs

FOLDER = "results/tiny/autoencoders/dc-ae-tiny"
SRUN = "srun --nodes=2 --ntasks-per-node=8 --cpus-per-task=12 --kill-on-bad-exit=1 dcae"
ON_TWO_NODES = {"mpi": "srun", "nodes": 2, "tasks_per_node": 8, "cpus_per_task": 12, "gres": "gpu:8", "gpu": 0}


class Resources(dict):
    """A job's resources as rules see them: by key and by attribute."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    ("resources", "command"),
    [
        ({}, "dcae"),
        ({"gpu": 0}, "dcae"),
        ({"gpu": 1}, "dcae"),
        ({"gpu": 8}, "torchrun --standalone --nproc-per-node 8 --no-python -- dcae"),
        (ON_TWO_NODES, SRUN),
    ],
    ids=str,
)
def test_the_command_that_starts_a_training(resources, command):
    assert Jobs(str(ROOT / "config/demo.yaml")).launcher(None, Resources(resources)) == command


def test_many_nodes_asked_for_reach_the_command(clone):
    commands = {
        "train_autoencoder": "train autoencoder",
        "train_denoiser": "train denoiser",
        "encode_latents": "encode",
    }
    asked = [f"{rule}:{name}={value}" for rule in commands for name, value in ON_TWO_NODES.items()]
    done = clone.snakemake("--dry-run", "--profile", "slurm", "--set-resources", *asked)
    for command in commands.values():
        assert set(re.findall(rf"Shell command: (.*) {command} {TINY} ", done.stdout)) == {SRUN}


def errors(clone: Clone, phase: str) -> list[float]:
    """Return the L1 of each step, as a training logs it."""
    lines = map(json.loads, (clone.folder / FOLDER / phase / "training_log.jsonl").read_text().splitlines())
    return [line["l1"] for line in lines if "l1" in line]


def test_two_processes_of_torchrun_have_the_curves_of_one(tmp_path):
    """The rules as they are, with two GPUs asked for; there are none, so both processes compute on CPUs.

    Without BatchNorm, whose statistics several processes share on GPUs alone.
    """
    found = []
    for gpus in (1, 2):
        clone = copy_repository(tmp_path / str(gpus))
        clone.edit(
            "config/autoencoders/dc-ae-tiny.yaml", "BatchNorm, BatchNorm, BatchNorm", "RMSNorm, RMSNorm, RMSNorm"
        )
        resources = ["--set-resources", f"train_autoencoder:gpu={gpus}"]
        done = clone.snakemake(f"{FOLDER}/low-resolution-full/config.json", *resources)
        assert ("torchrun --standalone" in done.stdout + done.stderr) == (gpus == 2)
        found.append(errors(clone, "low-resolution-full"))
    one, two = found
    assert len(one) == 6
    assert two == pytest.approx(one, rel=0, abs=1e-4)


@pytest.mark.parametrize(("shard", "share"), [("1/1", (0, 1)), ("2/7", (1, 7)), ("7/7", (6, 7))])
def test_a_shard_by_hand_is_a_share_of_the_work(shard, share):
    assert options.share_of_work(shard)[:2] == share


@pytest.mark.parametrize("shard", ["0/7", "8/7", "2", "a/b", "-1/3", "1/0"])
def test_a_shard_that_is_none_is_refused(shard):
    with pytest.raises(options.ShardError, match=r"expected i/n with i from 1 to n"):
        options.share_of_work(shard)
