# SPDX-License-Identifier: Apache-2.0
"""Entries, bench, cells and records as typed models. Imports no torch, since every cluster job parses it again."""

from dcae.benchmark.benchmark import Benchmark, GenerationCell, ReconstructionCell, Training
from dcae.benchmark.config import Config, ConfigError, read_entry
from dcae.benchmark.record import Provenance, Record, Value, write_atomically

__all__ = [
    "Benchmark",
    "Config",
    "ConfigError",
    "GenerationCell",
    "Provenance",
    "ReconstructionCell",
    "Record",
    "Training",
    "Value",
    "read_entry",
    "write_atomically",
]
