# SPDX-License-Identifier: Apache-2.0
"""Where a step's record comes from: command, code, configuration, input files, packages."""

from __future__ import annotations

import sys

from dcae.benchmark import Provenance
from evaluation import provenance as records
from workflow.staleness.steps import Step


def provenance(step: Step, *, config_digest: str, inputs: dict[str, str], seed: int, started: float) -> Provenance:
    """Return everything that decided a record of a step.

    Args:
        started: ``time.monotonic()`` of the step's first line.
    """
    return records.provenance(
        command=" ".join(["dcae", *sys.argv[1:]]),
        config_digest=config_digest,
        results_version=step.version,
        inputs=inputs,
        seed=seed,
        started=started,
    )
