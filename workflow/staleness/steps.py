# SPDX-License-Identifier: Apache-2.0
"""The steps of the workflow, and the identity of their results.

A result is known by three things, and by nothing else: the version of the step's results, the configuration that
decides it, and the content of its inputs. Rules give Snakemake the first two as parameters; commands store all three.

``RESULTS_VERSION`` is in the file of each step's own code; raise it when results change. Golden results of a tiny run
(``tests/workflow/golden.json``) fail where results change and the version does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dcae.benchmark import ConfigError
from workflow.staleness import configuration


@dataclass(frozen=True)
class Step:
    """A step of the workflow.

    Args:
        name: as in messages.
        module: file with the step's ``RESULTS_VERSION``, below the repository.
        configuration: digest of the configuration that decides the result of a training, cell or benchmark.
    """

    name: str
    module: str
    configuration: Callable[[Any], str]

    @property
    def version(self) -> int:
        """Version of the step's results."""
        return configuration.read_version(self.module, "RESULTS_VERSION")

    def planned(self, cell: Any, given: str | None) -> str:
        """Return the digest of a cell's configuration, which has to be the one that the workflow planned.

        Raises:
            ConfigError: an entry has changed since the plan was made.
        """
        found = self.configuration(cell)
        if given not in (None, found):
            raise ConfigError(
                f"{self.name}: an entry has changed since this job was planned (configuration {found}, planned "
                f"{given}); run the same snakemake command again"
            )
        return found


TRAIN_AUTOENCODER = Step("train_autoencoder", "dcae/training/autoencoder.py", configuration.training)
ENCODE = Step("encode", "dcae/diffusion/latents/encode.py", configuration.latents)
CAPTIONS = Step("captions", "dcae/diffusion/captions/encode.py", configuration.captions)
TRAIN_DENOISER = Step("train_denoiser", "dcae/training/denoiser.py", configuration.denoiser)
REFERENCE = Step("reference", "evaluation/features/reference.py", configuration.reference)
EVALUATE = Step("evaluate", "evaluation/quality/reconstruction.py", configuration.reconstruction)
GENERATE = Step("generate", "evaluation/quality/generation.py", configuration.generation)
PROFILE = Step("profile", "evaluation/efficiency/profile.py", configuration.efficiency)
TABLES = Step("tables", "evaluation/tables/registry.py", configuration.presentation)
FIGURES = Step("figures", "evaluation/figures/registry.py", configuration.presentation)
PAGE = Step("page", "evaluation/page/page.py", configuration.presentation)

STEPS = (
    TRAIN_AUTOENCODER, ENCODE, CAPTIONS, TRAIN_DENOISER, REFERENCE, EVALUATE, GENERATE, PROFILE, TABLES, FIGURES,
    PAGE,
)  # fmt: skip
