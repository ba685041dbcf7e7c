# SPDX-License-Identifier: Apache-2.0
"""The locale decides no digest: entries and sources are UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.workflow.conftest import ROOT

PRINT_DIGESTS = """
import sys
from dcae.benchmark import Benchmark
from workflow.staleness.steps import FIGURES, TRAIN_AUTOENCODER
benchmark = Benchmark.load("config/paper.yaml")
print(FIGURES.configuration(benchmark), *(TRAIN_AUTOENCODER.configuration(each) for each in benchmark.trainings))
"""


def digests(**locale: str) -> str:
    environment = {**os.environ, **locale}
    command = [sys.executable, "-c", PRINT_DIGESTS]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_an_ascii_locale_gives_the_same_digests():
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert digests(**ascii_only) == digests(PYTHONUTF8="1") != ""
