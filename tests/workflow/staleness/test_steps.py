# SPDX-License-Identifier: Apache-2.0
"""Words of the code re-run nothing; a raised results version re-runs its step and what follows from it."""

from __future__ import annotations

import importlib
import re

import pytest

from dcae.benchmark import Benchmark, ConfigError
from tests.workflow.conftest import Clone
from workflow.staleness.configuration import REPOSITORY
from workflow.staleness.steps import STEPS, TRAIN_AUTOENCODER, Step

PHASE = "low-resolution-full"
RULES = {
    "train_autoencoder": "train_autoencoder",
    "encode": "encode_latents",
    "captions": "encode_captions",
    "train_denoiser": "train_denoiser",
    "reference": "reference_features",
    "evaluate": "evaluate_reconstruction",
    "generate": "evaluate_generation",
    "profile": "profile_efficiency",
    "tables": "build_tables",
    "figures": "draw_figures",
    "page": "make_page",
}
"""Step to the rule that runs it."""

FOLLOWS = {
    "train_autoencoder": {"encode_latents", "train_denoiser", "evaluate_reconstruction", "evaluate_generation"},
    "encode": {"train_denoiser", "evaluate_generation"},
    "train_denoiser": {"evaluate_generation"},
    "reference": {"evaluate_reconstruction", "evaluate_generation"},
}
"""Step to the rules that follow from it but tables, figures and the page, which follow from every record."""


def planned_rules(clone: Clone) -> set[str]:
    """Return the rules of all jobs of a dry run."""
    plan = clone.snakemake("--dry-run", "--quiet", "progress").stdout
    return set(re.findall(r"^(?:local)?rule (\w+):", plan, re.MULTILINE)) - {"all"}


def raise_version(clone: Clone, step: Step) -> None:
    clone.edit(step.module, f"RESULTS_VERSION = {step.version}\n", f"RESULTS_VERSION = {step.version + 1}\n")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_version_that_rules_read_is_the_modules(step):
    module = importlib.import_module(step.module.removesuffix(".py").replace("/", "."))
    assert step.version == module.RESULTS_VERSION


def test_every_rule_that_makes_results_has_a_step():
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    with_version = set(re.findall(r"rule (\w+):(?:(?!\nrule ).)*?version=steps\.", rules, re.DOTALL))
    assert with_version == set(RULES.values())
    assert {step.name for step in STEPS} == set(RULES)


def test_names_annotations_and_messages_re_run_nothing(finished):
    """Rename a module that trainings import, a local variable, an annotation, and the text of an error."""
    training = finished.folder / "dcae" / "training"
    (training / "stopping.py").rename(training / "interrupts.py")
    for path in [*finished.folder.rglob("dcae/**/*.py"), *finished.folder.rglob("workflow/**/*.py")]:
        path.write_text(path.read_text().replace("dcae.training.stopping", "dcae.training.interrupts"))
    finished.edit("dcae/training/autoencoder.py", "-> dict[str, Tensor]:", "-> 'dict[str, Tensor]':")
    engine = training / "engine.py"
    engine.write_text(re.sub(r"\bterms\b", "renamed_terms", engine.read_text()))
    state = training / "state.py"
    state.write_text(state.read_text().replace("attempts at this training", "tries of this training"))
    assert planned_rules(finished) == set()
    # The command itself, with the edited code, finds its training complete as well.
    weights = "results/tiny/autoencoders/dc-ae-tiny"
    said = finished.run(
        "dcae", "train", "autoencoder", "config/tiny.yaml", "--autoencoder", "dc-ae-tiny", "--phase", PHASE,
        "--output", f"{weights}/{PHASE}", "--state", f"{weights}/{PHASE}.state", "--log-with", "none",
    ).stdout  # fmt: skip
    assert "was complete already" in said


@pytest.mark.parametrize("step", [step for step in STEPS if step.name != "captions"], ids=lambda step: step.name)
def test_a_raised_version_re_runs_its_step_and_what_follows(finished, step):
    raise_version(finished, step)
    presentation = {"build_tables", "draw_figures", "make_page"}
    presentation = set() if RULES[step.name] in presentation else presentation
    assert planned_rules(finished) == {RULES[step.name], *FOLLOWS.get(step.name, ()), *presentation}


def test_a_raised_version_makes_a_training_train_again(finished):
    raise_version(finished, TRAIN_AUTOENCODER)
    output = finished.snakemake(f"results/tiny/autoencoders/dc-ae-tiny/{PHASE}/config.json").stdout
    assert "was complete already" not in output
    assert re.search(rf"{PHASE} +step \d+/\d+", output)


def test_a_job_refuses_an_entry_that_changed_after_the_plan():
    training = Benchmark.load(REPOSITORY / "config" / "demo.yaml").final_training("dc-ae-f32c64-mini")
    planned = TRAIN_AUTOENCODER.configuration(training)
    assert TRAIN_AUTOENCODER.planned(training, planned) == planned
    assert TRAIN_AUTOENCODER.planned(training, None) == planned
    with pytest.raises(ConfigError, match=r"an entry has changed since this job was planned.*planned 0123"):
        TRAIN_AUTOENCODER.planned(training, "0123")
