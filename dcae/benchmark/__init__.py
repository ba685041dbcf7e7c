# SPDX-License-Identifier: Apache-2.0
"""Entries, bench, cells and records as typed models. Imports no torch, since every cluster job parses it again."""

from dcae.benchmark.benchmark import Benchmark
from dcae.benchmark.cells import (
    GenerationCell,
    ReconstructionCell,
    ResolvedAutoencoder,
    ResolvedCell,
    ResolvedGeneration,
    Training,
)
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
    "ResolvedAutoencoder",
    "ResolvedCell",
    "ResolvedGeneration",
    "Training",
    "Value",
    "read_entry",
    "write_atomically",
]
