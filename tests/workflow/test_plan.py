# SPDX-License-Identifier: Apache-2.0
"""What a benchmark needs is known before a job starts: every job fits, and ends within its attempts."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcae.benchmark import Benchmark, Record, Value
from dcae.benchmark.config import read_yaml
from tests.evaluation.synthetic import PROVENANCE
from tests.workflow.conftest import ROOT, Clone
from workflow import gpu_pool, layout
from workflow.jobs import Jobs
from workflow.planning.costs import Costs, works
from workflow.planning.count import count
from workflow.planning.needs import Needs, at_once, published_training_speeds
from workflow.planning.plan import STEPS, plan
from workflow.planning.resources import Resources
from workflow.planning.site import Site, gpus_here
from workflow.planning.sizing import CONTEXT_GIB, FILLED, Need, parts_of, size
from workflow.startup import use_gpus_here

SITE = ROOT / "slurm" / "site.yaml"
BENCHMARKS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if "reconstruction" in read_yaml(path))
LONGEST_SECONDS = 10


def planned(name: str, site: Path | Site = SITE):
    return plan(Benchmark.load(ROOT / "config" / f"{name}.yaml"), site if isinstance(site, Site) else Site.read(site))


# --- every benchmark of the repository ---


def test_there_are_benchmarks():
    assert {"ablations", "demo", "paper", "pretrained", "released-diffusion"} <= set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_job_asks_for_more_memory_than_it_gets_or_for_more_time_than_its_attempts_give(name):
    found = planned(name)
    assert found.uncounted == [], f"dcae plan config/{name}.yaml --count"
    assert found.problems == []
    for job in found.jobs:
        asked = job.size
        assert asked.gpu_memory_gib <= FILLED * found.site.gpu_memory_gib, job
        assert asked.gpus <= found.site.gpus_per_node and asked.minutes <= found.site.longest_minutes, job
        assert asked.gpus * asked.minutes * asked.attempts / 60 >= job.gpu_hours, job


@pytest.mark.parametrize("rule", ["train_autoencoder", "train_denoiser"])
def test_a_run_retries_trainings_as_often_as_the_longest_one_stops(rule):
    found = planned("paper")
    jobs = Jobs(str(ROOT / "config" / "paper.yaml"), str(SITE))
    needed = max(job.size.attempts for job in found.jobs if job.rule == rule)
    assert jobs.retries(rule, 10) == max(10, needed - 1)
    assert jobs.retries(rule, 0) == 0, "--retries 0 tries nothing again"


def test_other_jobs_end_within_the_attempts_of_the_profile():
    profile = re.search(r"^retries: (\d+)$", (ROOT / "slurm" / "profile.yaml").read_text(), re.M)
    for name in BENCHMARKS:
        for job in planned(name).jobs:
            assert job.rule.startswith("train_") or job.size.attempts <= 1 + int(profile[1]), job


def test_the_trainings_of_the_paper_are_checkpointed_and_fit_eight_gpus():
    """Without checkpointing UViT-H on 1024 tokens takes 155 GiB on each of eight GPUs."""
    benchmark = Benchmark.load(ROOT / "config" / "paper.yaml")
    for cell in map(benchmark.resolve, benchmark.cells.generation):
        assert cell.recipe.gradient_checkpointing, cell.recipe.name
    sizes = {job.name: job.size for job in planned("paper").jobs if job.rule == "train_denoiser"}
    largest = next(each for name, each in sizes.items() if name.startswith("uvit-h p2 on"))
    assert (largest.gpus, largest.accumulation) == (8, 1)
    assert largest.gpu_memory_gib == pytest.approx(36.8 + 1.9 + 1.9 + CONTEXT_GIB, rel=0.1)  # average, buckets


@pytest.mark.parametrize(
    ("model", "side", "printed"),
    [("DiT-XL", 16, 20.9), ("UViT-H", 32, 54.1), ("DiT-S", 64, 41.2)],
)
def test_the_count_is_the_papers_memory_or_a_little_more(model, side, printed):
    """Tables 3 and 4, in GiB at batch 256, without the moving average. Here U-ViT's tokens are in float32."""
    benchmark = Benchmark.load(ROOT / "config" / "paper.yaml")
    needs = Needs(benchmark, Site.read(SITE))
    cells = map(benchmark.resolve, benchmark.cells.generation)
    cell = next(
        each for each in cells if each.diffusion.paper_name == model and each.latent_size == side * each.patch_size
    )
    need = needs.train_denoiser(cell)
    average = need.parallel_gib  # a copy of the weights, too
    assert 0.95 * printed < need.fixed_gib - average + 256 * need.image_gib < 1.35 * printed


def test_hours_follow_the_papers_speeds():
    hours = {job.name: job.gpu_hours for job in planned("paper").jobs if job.rule == "train_denoiser"}
    slowest = next(each for name, each in hours.items() if name.startswith("uvit-h p2 on"))
    assert slowest == pytest.approx(500_000 * 1024 / 55 / 3600)
    assert published_training_speeds()["UViT-H", 1024] == 55


@pytest.mark.parametrize(("device", "speed"), [("NVIDIA H100 80GB HBM3", 77.0), ("NVIDIA A100", 55.0), ("a CPU", 55.0)])
def test_a_record_of_such_a_gpu_overrides_the_papers_speed(tmp_path, monkeypatch, device, speed):
    monkeypatch.chdir(tmp_path)
    benchmark = Benchmark.load(ROOT / "config" / "paper.yaml")
    cell = next(each for each in benchmark.cells.generation if (each.diffusion, each.patch_size) == ("uvit-h", 2))
    values = {"training_images_per_second": Value(value=77.0, n=1)}
    record = Record(
        kind="efficiency", number_class="reproduced", cell=vars(cell), values=values, protocol={},
        protocol_fingerprint="", device={"name": device}, provenance=PROVENANCE,
    )  # fmt: skip
    record.write(layout.file("paper", layout.EFFICIENCY_RECORD, **vars(cell)))
    assert Needs(benchmark, Site.read(SITE)).training_speed(benchmark.resolve(cell)) == speed


def test_features_take_the_disk_of_the_images_that_are_measured():
    of = {job.name: job.disk["features"] for job in planned("miniature").jobs if "features" in job.disk}
    vector = 2048 * 4 * 2  # bytes, by two protocols
    assert of["dc-ae-f32c64-mini on large-scenes at 64 px"] == 1000 * vector
    assert of["large-scenes at 128 px, generation"] == 4000 * vector


def test_latents_take_the_disk_of_their_shape_and_posterior():
    """ImageNet's of 64 x 64 x 16 in float32; flux-vae keeps mean and standard deviation."""
    latents = {job.name.split()[0]: job.disk["latents"] for job in planned("paper").jobs if "latents" in job.disk}
    assert latents["flux-vae-shift-ignored"] == 1_281_167 * 64 * 64 * 16 * 4
    assert latents["flux-vae"] == 2 * latents["flux-vae-shift-ignored"]


@pytest.mark.parametrize("subject", ["dit-demo p1", "dc-ae-f8c4-demo at", "dc-ae-f32-demo, low-resolution-local"])
def test_a_row_of_the_table_is_what_counting_gives(subject):
    benchmark = Benchmark.load(ROOT / "tests" / "benchmark" / "families.yaml")
    work = next(each for each in works(benchmark) if each.subject.startswith(subject))
    found, stored = count(work), Costs(benchmark.config).get(work)
    for name in ("parameters", "gmacs", "fixed_gib", "image_gib"):
        assert getattr(stored, name) == pytest.approx(getattr(found, name), rel=2e-3), name


# --- sizes ---


def test_a_job_takes_the_fewest_gpus_on_which_it_ends_within_an_attempt():
    site = Site(gpus_per_node=8, longest_minutes=1440)
    need = Need(gpu_hours=40, fixed_gib=5, image_gib=0.1, batch=256, splits=True)
    found = size(need, site)
    assert (found.gpus, found.minutes) == (4, 900)
    assert size(Need(1, 5, 0.1, batch=256, splits=True), site).gpus == 1
    assert size(Need(4000, 5, 0.1, batch=256, splits=True), site).gpus == 8


def test_what_does_not_fit_at_once_takes_more_gpus_or_accumulates():
    site = Site(gpus_per_node=4)
    need = Need(1, 5, 1.0, batch=96, splits=True)
    assert size(need, site).gpus == 2
    accumulating = Need(1, 5, 1.0, batch=96, splits=True, accumulates=True)
    assert (size(accumulating, site).gpus, size(accumulating, site).accumulation) == (1, 2)
    assert [parts_of(accumulating, site, gpus) for gpus in (1, 2, 4)] == [2, 1, 1]


def test_what_cannot_fit_says_how_much_it_needs():
    found = size(Need(1, 100, 1.0, batch=2, splits=True), Site(gpus_per_node=2))
    assert found.problem == f"needs {CONTEXT_GIB + 101:.0f} GiB on each GPU, and 73 can be used"


def test_batches_are_those_of_the_commands():
    from dcae.autoencoders.tiling import images_at_once

    for side in (64, 256, 512, 1024, 2048):
        assert at_once(side, 16) == images_at_once(side, 16)


def test_the_launcher_and_the_accumulation_follow_from_the_gpus(monkeypatch):
    jobs = Jobs(str(ROOT / "config" / "paper.yaml"), str(SITE))
    cell = next(each for each in jobs.benchmark.cells.generation if (each.diffusion, each.patch_size) == ("uvit-h", 2))
    wildcards = type("Wildcards", (), {name: str(value) for name, value in vars(cell).items()})
    assert jobs.accumulation(wildcards, {"gpu": 8}) == ""
    assert jobs.accumulation(wildcards, {"gpu": 1}) == "--gradient-accumulation 8"
    assert jobs.launcher(wildcards, {"gpu": 2}).startswith("torchrun")
    monkeypatch.setenv(gpu_pool.POOL, "0,1,2")
    assert jobs.launcher(wildcards, {"gpu": 1}) == "dcae", "which takes one by itself"
    assert jobs.launcher(wildcards, {"gpu": 2}).startswith("python -m workflow.gpu_pool 2 torchrun")


def test_a_benchmark_that_is_not_counted_runs_on_one_gpu_for_a_day():
    benchmark = Benchmark.load(ROOT / "tests" / "workflow" / "config" / "tiny.yaml")
    asked = Resources(benchmark, Site.read(SITE)).size("train_autoencoder", benchmark.trainings[0])
    assert (asked.gpus, asked.minutes) == (1, 1440)


# --- the command ---


def dcae_plan(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workflow", "plan", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_plan_of_the_paper_takes_less_than_ten_seconds_of_a_processor():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = dcae_plan("config/paper.yaml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LONGEST_SECONDS
    for text in (
        "train_denoiser",
        "table 5",
        "total",
        "latents",
        "flux-vae: black-forest-labs/FLUX.1-schnell",
        "gated",
    ):
        assert text in done.stdout


def test_a_plan_as_json_has_every_job_and_other_gpus():
    found = json.loads(dcae_plan("config/released-diffusion.yaml", "--json", "--gpu", "h200").stdout)
    assert found["site"]["gpu_memory_gib"] == 139
    assert found["total"]["jobs"] == len(found["jobs"]) == sum(each["jobs"] for each in found["steps"].values())
    assert found["total"]["jobs"] == sum(each["jobs"] for each in found["tables"].values())


def test_what_cannot_fit_ends_the_plan_with_an_error(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("memory_gib: 8\n")
    done = dcae_plan("config/released-diffusion.yaml", "--site", str(site))
    assert done.returncode == 1
    assert re.search(
        r"Cannot run here\n(?:  .*\n)*  evaluate_generation .*: needs \d+ GiB on each GPU, and 7 can be used",
        done.stdout,
    )


def test_finished_jobs_are_not_planned_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = planned("released-diffusion")
    job = next(each for each in before.jobs if each.rule == "evaluate_generation")
    total = before.totals(before.jobs)["gpu_hours"] - job.gpu_hours
    job.output.parent.mkdir(parents=True)
    job.output.touch()
    after = planned("released-diffusion")
    assert after.totals(after.jobs)["done"] == 1
    assert after.totals(after.jobs)["gpu_hours"] == pytest.approx(total, abs=0.1)


def test_the_plan_has_the_jobs_of_the_workflow():
    clone = Clone(ROOT)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = clone.snakemake("--dry-run", "--quiet", "rules", file="config/paper.yaml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < LONGEST_SECONDS
    counted = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M))
    found = planned("paper")
    assert {rule: sum(job.rule == rule for job in found.jobs) for rule in STEPS} == {
        rule: int(counted.get(rule, 0)) for rule in STEPS
    }


# --- GPUs of one machine ---


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with three GPUs, by a stand-in for nvidia-smi."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    lines = "".join(f"{n}, GPU-{n}, NVIDIA A100-SXM4-80GB, 81920\\n" for n in range(3))
    program.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_the_gpus_of_a_machine_are_its_limit(machine, monkeypatch):
    resources: dict[str, int] = {}
    monkeypatch.setenv(gpu_pool.POOL, "")
    use_gpus_here(resources)
    assert resources == {"gpu": 3} and os.environ[gpu_pool.POOL] == "0,1,2"
    given = {"gpu": 1}
    use_gpus_here(given)
    assert given == {"gpu": 1}, "--resources gpu=1"
    site = Site.here()
    assert (site.gpu, site.gpus_per_node, site.gpu_memory_gib) == ("a100", 3, 80)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-0")
    assert [gpu.number for gpu in gpus_here()] == ["2", "GPU-0"]


def test_without_gpus_nothing_is_limited(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    resources: dict[str, int] = {}
    use_gpus_here(resources)
    assert resources == {} and Site.here().gpus_per_node == 1


def test_jobs_side_by_side_get_different_gpus(machine):
    program = "import os, sys, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
    environment = {**os.environ, gpu_pool.POOL: "0,1,2", "PYTHONPATH": str(ROOT)}

    def start(count: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "workflow.gpu_pool", str(count), sys.executable, "-c", program]
        return subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True)

    first, second = start(2), start(1)
    seen = [each.stdout.readline().strip() for each in (first, second)]
    assert sorted(",".join(seen).split(",")) == ["0", "1", "2"]
    third = start(1)
    time.sleep(0.5)
    first.kill()
    first.wait()
    assert third.stdout.readline().strip() in seen[0].split(",")
    for each in (second, third):
        each.communicate()
