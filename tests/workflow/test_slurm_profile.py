# SPDX-License-Identifier: Apache-2.0
"""What ``--profile slurm`` makes of each rule, without a Slurm: a dry run's resources and the plugin's sbatch line."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from tests.workflow.conftest import Clone, copy_repository

# The tiny benchmark is not counted (config/costs.csv): its networks get a GPU for the longest time of slurm/site.yaml.
EXPECTED = """
reference_features       -t 30    --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
train_autoencoder        -t 1440  --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
evaluate_reconstruction  -t 1440  --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
encode_latents           -t 1440  --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
train_denoiser           -t 1440  --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
evaluate_generation      -t 1440  --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
profile_efficiency       -t 30    --mem 64000  --nodes=1  --cpus-per-task=12  --gpus=1
"""


class Resources(dict):
    """A job's resources as the plugin reads them: by key and by attribute."""

    __getattr__ = dict.__getitem__


def resources_of_rules(clone: Clone, **environment: str) -> dict[str, Resources]:
    """Rule to the resources of one of its jobs, from a dry run of the tiny benchmark with the Slurm profile."""
    done = clone.snakemake("--dry-run", "--profile", "slurm", **environment)
    found = re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout + done.stderr, re.M)
    return {rule: Resources(map(_resource, text.split(", "))) for rule, text in found}


def _resource(text: str) -> tuple[str, int | str]:
    name, value = text.split("=", 1)
    return name, int(value) if value.isdigit() else value


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory) -> Clone:
    return copy_repository(tmp_path_factory.mktemp("profile") / "clone")


@pytest.fixture(scope="module")
def resources(fresh_clone) -> dict[str, Resources]:
    return resources_of_rules(fresh_clone)


def sbatch_options(rule: str, resources: Resources) -> list[str]:
    """What the plugin adds to ``sbatch`` for a rule, less what names the run."""
    job = SimpleNamespace(name=rule, threads=1, resources=resources, is_group=lambda: False)
    names = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str"), "name")
    line = get_submit_command(job, {**names, "account": "", "partition": "", "workdir": None}) + set_gres_string(job)
    return line.split("--comment name")[1].split()


@pytest.mark.parametrize("line", EXPECTED.split("\n")[1:-1], ids=lambda line: line.split()[0])
def test_sbatch_line(resources, line):
    rule, *options = line.split()
    assert sbatch_options(rule, resources[rule]) == options


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "-t 1440 --mem 512000 --nodes=1 --cpus-per-task=96 --gpus=8"),
        (1, "-t 1440 --mem 512000 --nodes=2 --ntasks-per-node=8 --cpus-per-task=12 --gres=gpu:8"),
    ],
)
def test_sbatch_line_of_a_training_on_many_gpus(clone, number, expected):
    """With the lines that the head of the profile gives for one node and for several."""
    profile = (clone.folder / "slurm" / "profile.yaml").read_text()
    line = re.findall(r"^#   (train_autoencoder: \{(?:.*\n#   .*|.*)\})$", profile, re.M)[number]
    clone.edit("slurm/profile.yaml", "# set-resources:\n", f"set-resources:\n  {line.replace('#', '')}")
    asked = resources_of_rules(clone)
    assert sbatch_options("train_autoencoder", asked["train_autoencoder"]) == expected.split()
    assert (
        sbatch_options("train_denoiser", asked["train_denoiser"])
        == EXPECTED.split("train_denoiser")[1].split("\n")[0].split()
    )


@pytest.mark.parametrize("rule", ["build_tables", "draw_figures", "make_page", "all"])
def test_what_runs_on_the_head_node_asks_for_no_gpu(resources, rule):
    assert "gpu" not in resources[rule]


def test_every_rule_that_computes_is_in_the_table_above(resources):
    listed = {line.split()[0] for line in EXPECTED.strip().split("\n")}
    assert {rule for rule, asked in resources.items() if asked.get("gpu")} == listed


@pytest.mark.parametrize(("partition", "account"), [("fast", "physics"), ("max", "2023-12"), ("all", "0123")])
def test_partition_and_account_come_from_the_environment_as_they_are_written(
    fresh_clone, resources, partition, account
):
    """Snakemake evaluates strings: 2023-12 is 2011 to it, and max a function."""
    assert not {"slurm_partition", "slurm_account"} & set(resources["train_autoencoder"])
    variables = {"DCAE_SLURM_PARTITION": partition, "DCAE_SLURM_ACCOUNT": account}
    done = fresh_clone.snakemake("--dry-run", "--profile", "slurm", **variables).stdout
    assert f"slurm_partition={partition}," in done and f"slurm_account={account}," in done
