# SPDX-License-Identifier: Apache-2.0
"""What a process learns from Slurm and torchrun about itself and the others."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from dcae.training import distributed
from dcae.training.distributed import NoMeetingPoint, join_slurm_step, own_cores, tasks_on_node

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The sixth of seven tasks of an srun over nodes of four, two and one.
STEP = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "4,2,1",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, and no others of Slurm and torchrun; what the code sets is undone after the test."""
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if "SLURM" not in name})
    for name in (*TORCHRUN, "CUDA_VISIBLE_DEVICES", "TORCHELASTIC_RUN_ID"):
        os.environ.pop(name, None)
    monkeypatch.setattr(distributed, "_host_names", lambda _nodes: ["localhost"])
    return lambda **variables: os.environ.update(variables)


def joined() -> dict[str, str]:
    """torchrun's variables after a process has looked at Slurm's."""
    join_slurm_step()
    return {name: os.environ[name] for name in TORCHRUN if name in os.environ}


@pytest.mark.parametrize(
    ("text", "counts"), [("4", [4]), ("8(x3)", [8, 8, 8]), ("8(x2),4", [8, 8, 4]), ("1,12(x2),3", [1, 12, 12, 3])]
)
def test_tasks_of_each_node(text, counts):
    assert [tasks_on_node(text, node) for node in range(len(counts))] == counts


def test_a_task_of_srun_gets_the_variables_of_torchrun(environment):
    environment(**STEP, CUDA_VISIBLE_DEVICES="0,1,2,3")
    assert joined() == {
        "RANK": "5", "WORLD_SIZE": "7", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(20_000 + 123456 % 20_000),
    }  # fmt: skip


def test_a_task_that_sees_only_its_own_gpu_takes_that_one(environment):
    environment(**STEP, CUDA_VISIBLE_DEVICES="1")
    assert joined()["LOCAL_RANK"] == "0"


@pytest.mark.parametrize("tasks", [{}, {"SLURM_NTASKS": "4"}, {**STEP, "SLURM_STEP_NUM_TASKS": "1"}])
def test_a_process_alone_stays_alone(environment, tasks):
    """Also one in a batch script, where Slurm tells how many tasks an srun would start."""
    environment(**tasks)
    assert joined() == {}


def test_what_is_set_already_stays(environment):
    environment(**STEP, MASTER_ADDR="10.0.0.1", MASTER_PORT="5")
    assert (joined()["MASTER_ADDR"], joined()["MASTER_PORT"]) == ("10.0.0.1", "5")
    environment(RANK="3")
    del os.environ["WORLD_SIZE"]
    assert "WORLD_SIZE" not in joined()


def test_a_node_whose_name_is_unknown_is_found_by_its_address(environment, monkeypatch):
    monkeypatch.setattr(distributed, "_host_names", lambda _nodes: ["no-such-node.invalid"])
    environment(**STEP, SLURM_LAUNCH_NODE_IPADDR="127.0.0.1")
    assert joined()["MASTER_ADDR"] == "127.0.0.1"


def test_no_address_at_all_is_an_error(environment, monkeypatch):
    monkeypatch.setattr(distributed, "_host_names", lambda _nodes: [])
    environment(**STEP)
    with pytest.raises(NoMeetingPoint, match=r"gpu\[07-09\].*no scontrol here\); set MASTER_ADDR"):
        join_slurm_step()


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({}, 12),
        ({"LOCAL_WORLD_SIZE": "4"}, 3),
        ({"LOCAL_WORLD_SIZE": "16"}, 1),
        ({"SLURM_CPUS_PER_TASK": "6", "LOCAL_WORLD_SIZE": "4"}, 6),  # by srun: of each task
        ({"SLURM_CPUS_PER_TASK": "64"}, 12),  # a node that claims more than it has
        ({"SLURM_CPUS_PER_TASK": "8", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}, 2),  # by torchrun: shared
    ],
)
def test_cores_of_a_process(environment, monkeypatch, variables, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(12)), raising=False)
    environment(**variables)
    assert own_cores() == cores


FILL_TWENTY_TIMES = """
import resource, numpy
from dcae.training.distributed import keep_freed_memory
{first}
pages = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(2**23)
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(pages[-5:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is changed with other C libraries")
def test_freed_memory_is_used_again():
    def pages(first: str) -> int:
        command = [sys.executable, "-c", FILL_TWENTY_TIMES.format(first=first)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)

    # 64 MiB are 16,384 pages of 4 KiB at each use; should glibc keep them by itself, there is nothing to do
    assert pages("") > 20 * pages("keep_freed_memory()") + 100
