# SPDX-License-Identifier: Apache-2.0
"""The workflow on a real Slurm: two virtual nodes with fake GPUs (tests/slurm/local_slurm.py) and the profile as it is.

Runs where DCAE_TEST_SLURM=1 asks for it, as .ci/run does, since it needs root and writes /etc/slurm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.local_slurm import jobs, local_slurm
from tests.workflow.conftest import ROOT, TINY, Clone, copy_repository
from tests.workflow.test_killed import end, wait_for
from tests.workflow.test_launch import FOLDER, errors
from workflow.planning.plan import STEPS
from workflow.planning.site import Site

SITE = Site.read(ROOT / "slurm" / "site.yaml")
# The tiny benchmark has no captions; they are embedded by the same kind of job as latents.
ON_THE_CLUSTER = set(STEPS) - {"encode_captions"}
# The first look at a job after 2 s instead of 40 s; files on a local disk; a failure is shown, not tried again.
FAST = [
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
    *("--latency-wait", "5", "--retries", "0"),
]

pytestmark = pytest.mark.skipif(
    os.environ.get("DCAE_TEST_SLURM") != "1",
    reason="starts Slurm's daemons and writes /etc/slurm, which needs root: set DCAE_TEST_SLURM=1",
)


@dataclass(frozen=True)
class Run:
    """A finished run of Snakemake and the jobs that Slurm had for it."""

    clone: Clone
    returncode: int
    output: str
    jobs: list[dict[str, str]]

    def jobs_of(self, rule: str) -> list[dict[str, str]]:
        return [job for job in self.jobs if re.fullmatch(rf"rule_{rule}(_wildcards_.*)?", job["Comment"])]


def run_on_slurm(clone: Clone, *arguments: str) -> Run:
    """Run Snakemake with the Slurm profile."""
    return run_command(clone, "snakemake", "--cores", "all", "--profile", "slurm", *FAST, *arguments)


def run_command(clone: Clone, *command: str) -> Run:
    """Run a command that starts Slurm jobs, for twenty minutes at most: CI's machine may be busy."""
    known = {job["JobId"] for job in jobs()}
    done = subprocess.run(
        command,
        cwd=clone.folder,
        env=clone.environment,
        timeout=1200,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Run(clone, done.returncode, done.stdout, [job for job in jobs() if job["JobId"] not in known])


@pytest.fixture(scope="module")
def slurm():
    with local_slurm() as folder:
        yield folder


@pytest.fixture(scope="module")
def slurm_run(slurm, tmp_path_factory) -> Run:
    """The tiny benchmark, run by ``dcae run`` in a copy of the repository, with FAST in its profile."""
    clone = copy_repository(tmp_path_factory.mktemp("slurm") / "clone")
    clone.edit("slurm/profile.yaml", "retries: 10", "retries: 0")
    checks = "slurm-init-seconds-before-status-checks: 2\nseconds-between-status-checks: 2\n"
    clone.edit("slurm/profile.yaml", "latency-wait: 60", f"{checks}latency-wait: 5")
    run = run_command(clone, "dcae", "run", TINY, "--profile", "slurm")
    logs = sorted((clone.folder / "results").glob("**/*.log"))
    tails = "".join(f"\n--- {log}\n{log.read_text()[-2000:]}" for log in logs)
    assert run.returncode == 0, run.output[-5000:] + tails
    return run


def megabytes(memory: str) -> int:
    """Slurm's way to write memory, 62.50G or 32000M, in MB."""
    return round(float(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]])


def minutes(time: str) -> int:
    """Slurm's way to write a time limit, 1-00:00:00 or 04:00:00, in minutes."""
    days, _, clock = time.rpartition("-")
    hours, minute, _ = clock.split(":")
    return int(days or 0) * 1440 + int(hours) * 60 + int(minute)


def test_all_jobs_succeeded(slurm_run):
    assert {job["JobState"] for job in slurm_run.jobs} == {"COMPLETED"}
    assert slurm_run.output.rstrip().endswith("results: results/tiny")


def test_every_rule_that_computes_went_to_the_cluster(slurm_run):
    assert {rule for rule in ON_THE_CLUSTER if slurm_run.jobs_of(rule)} == ON_THE_CLUSTER


@pytest.mark.parametrize("rule", sorted(ON_THE_CLUSTER))
def test_slurm_gave_each_job_what_the_site_file_allows(slurm_run, rule):
    """The tiny benchmark is not counted: a GPU for each job."""
    for job in slurm_run.jobs_of(rule):
        assert job["JOB_GRES"] == "gpu:1"
        assert job["NumNodes"] == "1"
        assert int(job["CPUs/Task"]) == SITE.cpus_per_gpu
        assert minutes(job["TimeLimit"]) <= SITE.longest_minutes
        assert megabytes(job["MinMemoryNode"]) == SITE.memory_mb_per_gpu


@pytest.mark.parametrize("rule", sorted(ON_THE_CLUSTER))
def test_each_job_saw_the_gpu_that_it_was_given(slurm_run, rule):
    for job in slurm_run.jobs_of(rule):
        assert re.search(r"CUDA_VISIBLE_DEVICES=[01]\b", Path(job["StdOut"]).read_text())


def test_tables_and_figures_took_no_job(slurm_run):
    assert len(slurm_run.jobs) == sum(len(slurm_run.jobs_of(rule)) for rule in ON_THE_CLUSTER)
    results = slurm_run.clone.folder / "results" / "tiny"
    assert "dc-ae-tiny" in (results / "tables" / "table2.csv").read_text()
    assert list(results.glob("figures/*.png"))


def test_gpus_asked_for_on_the_command_line_reach_the_job(slurm, tmp_path):
    for name in ("profiles", "slurm"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "Snakefile").write_text(
        "rule train_autoencoder:\n"
        "    output: 'visible.txt'\n"
        "    resources: gpu=1\n"
        "    shell: 'echo $CUDA_VISIBLE_DEVICES > {output}'\n"
    )
    run = run_on_slurm(Clone(tmp_path), "--set-resources", "train_autoencoder:gpu=2")
    assert run.returncode == 0, run.output[-5000:]
    assert (tmp_path / "visible.txt").read_text() == "0,1\n"


def test_a_training_over_two_nodes_has_the_curve_of_one_process(slurm, tmp_path):
    target = f"{FOLDER}/low-resolution-full/config.json"
    alone, spread = copy_repository(tmp_path / "one"), copy_repository(tmp_path / "four")
    for clone in (alone, spread):  # several processes share the statistics of BatchNorm on GPUs alone
        norms = ("BatchNorm, BatchNorm, BatchNorm", "RMSNorm, RMSNorm, RMSNorm")
        clone.edit("config/autoencoders/dc-ae-tiny.yaml", *norms)
    alone.snakemake(target)
    asked = "mpi: srun, nodes: 2, tasks_per_node: 2, gres: 'gpu:2', gpu: 0, cpus_per_task: 1, mem_mb: 4000, runtime: 60"
    spread.edit("slurm/profile.yaml", "# set-resources:\n", f"set-resources:\n  train_autoencoder: {{{asked}}}")
    run = run_on_slurm(spread, target, "--configfile", TINY)
    assert run.returncode == 0, run.output[-5000:]
    (job,) = run.jobs_of("train_autoencoder")
    assert (job["NumNodes"], job["NumTasks"]) == ("2", "4")
    assert errors(spread, "low-resolution-full") == pytest.approx(errors(alone, "low-resolution-full"), rel=0, abs=1e-4)


def test_a_run_that_is_killed_and_started_again_trains_nothing_twice(slurm, tmp_path):
    """The first run's job goes on; the second's ends at once, frees its GPU and leaves the log of the first."""
    clone = copy_repository(tmp_path / "clone")
    clone.edit("config/recipes/tiny-two-phase.yaml", " steps: 6", " steps: 1000000")
    log = clone.folder / "results/tiny/logs/train/dc-ae-tiny-low-resolution-full.attempts.log"
    target = (f"{FOLDER}/low-resolution-full/config.json", "--configfile", TINY)
    known = {job["JobId"] for job in jobs()}
    killed = subprocess.Popen(
        ["snakemake", "--cores", "all", "--profile", "slurm", *FAST, *target],
        cwd=clone.folder, env=clone.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(lambda: log.is_file() and "step" in log.read_text())
        end(killed)
        [first] = [job["JobId"] for job in jobs() if job["JobId"] not in known]
        begun = log.read_text()
        again = run_on_slurm(clone, *target)
        states = {job["JobId"]: job["JobState"] for job in jobs() if job["JobId"] not in known}
        assert again.returncode != 0
        assert states.pop(first) == "RUNNING" and set(states.values()) == {"FAILED"}
        assert log.read_text().startswith(begun)
        assert "is in use by process" in log.read_text() and "waiting" not in log.read_text()
    finally:
        end(killed)
        subprocess.run(["scancel", "--state=RUNNING", "--me"], check=False)
