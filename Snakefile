# SPDX-License-Identifier: Apache-2.0
# The whole benchmark: train autoencoders, train diffusion models on their latents, measure, make tables and figures.
#
#   snakemake --cores all                                              the demo
#   snakemake --cores all --configfile config/paper.yaml --profile slurm
#   snakemake tables                                                   tables from the records that are there
import re
from os.path import relpath
from pathlib import Path

from snakemake.utils import min_version

from workflow import fork_server, layout
from workflow.jobs import Jobs, folder_option
from workflow.preflight import check, check_inputs
from workflow.staleness import configuration, steps
from workflow.staleness.copied import restore_order
from workflow.startup import print_notices, put_own_commands_first, release_locks_of_dead_runs, use_gpus_here

min_version("9.20")

put_own_commands_first()
jobs = Jobs(relpath(workflow.configfiles[0]) if workflow.configfiles else "config/demo.yaml", config.get("site"))

if workflow.is_main_process:
    run_lock = release_locks_of_dead_runs(Path(".snakemake"), jobs.benchmark.name)
    print_notices(jobs.benchmark)
    check(jobs.benchmark)
    restore_order(jobs.benchmark)
    if not jobs.on_a_cluster:
        use_gpus_here(workflow.global_resources)


container: "docker://python:3.11"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    benchmark=re.escape(jobs.benchmark.name),
    autoencoder=jobs.pattern("autoencoder"),
    phase=jobs.pattern("phase"),
    dataset=jobs.pattern("dataset"),
    diffusion=jobs.pattern("diffusion"),
    resolution=r"\d+",
    patch_size=r"\d+",
    purpose="reconstruction|generation",
    split="train|validation",


localrules:
    all,
    tables,
    build_tables,
    draw_figures,
    make_page,


onstart:
    if workflow.is_main_process and not workflow.dag_settings.targets:  # a target may need none of them
        check_inputs(jobs.benchmark)
    containers = workflow.deployment_settings.deployment_method  # whose jobs run elsewhere
    if workflow.is_main_process and workflow.local_exec and not (workflow.touch or containers):
        global server_of_jobs  # that is, for as long as this run lives
        server_of_jobs = fork_server.start()
    for name in ("train_autoencoder", "train_denoiser"):
        training = workflow.get_rule(name)
        training.restart_times = jobs.retries(name, training.restart_times)


rule all:
    input:
        jobs.results,


include: "workflow/rules/autoencoders.smk"
include: "workflow/rules/diffusion.smk"
include: "workflow/rules/presentation.smk"
