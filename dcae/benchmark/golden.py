# SPDX-License-Identifier: Apache-2.0
"""Golden values: published numbers that the harness has to reproduce, with tolerances and their reasons."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter

from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml, validate
from dcae.benchmark.entries import Settings

GOLDEN = REPOSITORY_CONFIG / "golden.yaml"


class GoldenValue(Settings):
    """What a value has to be, and how far off it may lie."""

    value: float
    tolerance: PositiveFloat
    reason: str = Field(min_length=1, description="why it may differ by so much")


class GoldenCheck(Settings):
    """An autoencoder with released weights whose values are published, by the name of its entry."""

    dataset: str
    resolution: PositiveInt
    protocol: str
    images: PositiveInt = Field(description="validation images that the published values are of")
    source: str
    values: dict[str, GoldenValue] = Field(min_length=1)


class GoldenFile(Settings):
    """The YAML of golden values."""

    checks: dict[str, GoldenCheck] = Field(min_length=1)


def read_golden(path: Path = GOLDEN) -> dict[str, GoldenCheck]:
    """The checks by the name of their autoencoder; raises ``ConfigError`` naming file and field."""
    return validate(TypeAdapter(GoldenFile), read_yaml(path), path).checks
