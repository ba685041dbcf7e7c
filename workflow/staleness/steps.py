# SPDX-License-Identifier: Apache-2.0
"""The steps of the workflow, and the identity of their results.

A result is known by three things, and by nothing else: the version of the step's results, the configuration that
decides it, and the content of its inputs. Rules give Snakemake the first two as parameters; commands store all three.

``RESULTS_VERSION`` stands beside each step's own code; whoever changes results raises it. Golden results of tiny runs
in ``tests/golden`` fail where results change and the version does not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcae.benchmark import ConfigError
from workflow.staleness import configuration

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = re.compile(r"^RESULTS_VERSION = (\d+)$", re.MULTILINE)


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
        """Version of the step's results. It is read from the source, since the module may import torch."""
        return _version(self.module)

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


@functools.cache
def _version(module: str) -> int:
    found = VERSION.findall((REPOSITORY / module).read_text(encoding="utf-8"))
    if len(found) != 1:
        raise RuntimeError(f"{module}: expected one line RESULTS_VERSION = <integer>, found {len(found)}")
    return int(found[0])


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

STEPS = (
    TRAIN_AUTOENCODER, ENCODE, CAPTIONS, TRAIN_DENOISER, REFERENCE, EVALUATE, GENERATE, PROFILE, TABLES, FIGURES,
)  # fmt: skip
