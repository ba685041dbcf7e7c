# SPDX-License-Identifier: Apache-2.0
"""The golden check: does this harness, on this machine, give the published values of a released autoencoder?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcae.benchmark import Config
from dcae.benchmark.entries import Protocol
from dcae.benchmark.golden import GoldenCheck, GoldenValue
from dcae.benchmark.record import Value
from dcae.data.dataset import ImageDataset
from dcae.data.loading import open_dataset
from dcae.data.storage.files import DatasetError
from dcae.weights.catalogue import WeightsError, find


@dataclass(frozen=True)
class Verified:
    """One value beside its golden one."""

    name: str
    found: float | None
    golden: GoldenValue

    @property
    def holds(self) -> bool:
        return self.found is not None and abs(self.found - self.golden.value) <= self.golden.tolerance

    def __str__(self) -> str:
        found = "not measured" if self.found is None else f"{self.found:.5f}"
        verdict = "holds" if self.holds else "FAILS"
        return (
            f"{verdict:6}{self.name:12}{found:>12}  expected {self.golden.value:.5f} ± {self.golden.tolerance:g} "
            f"({self.golden.reason})"
        )


def missing_parts(check: GoldenCheck, config: Config) -> list[str]:
    """What a check needs and this machine lacks, each with where it comes from and where it belongs."""
    found = []
    protocol: Protocol = config.entry("protocols", check.protocol)
    for network in protocol.networks:
        if not network.random and network != protocol.clip:  # reconstructions have no captions
            try:
                find(network.weights)
            except WeightsError as error:
                found.append(str(error))
    try:
        dataset = check_dataset(check, config)
    except DatasetError as error:
        return [*found, f"missing data set {check.dataset!r}: {error}"]
    if len(dataset) < check.images or protocol.reconstruction_images < check.images:
        used = min(len(dataset), protocol.reconstruction_images)
        found.append(
            f"data set {check.dataset!r} and protocol {check.protocol!r} give {used} validation images, "
            f"the published values are of {check.images}"
        )
    return found


def check_dataset(check: GoldenCheck, config: Config) -> ImageDataset:
    """The validation images of a check; raises ``DatasetError`` if they are not there."""
    return open_dataset(config.entry("datasets", check.dataset), "validation", check.resolution)


def compare_with_golden(values: Mapping[str, Value], check: GoldenCheck) -> list[Verified]:
    """Every golden value beside the measured one."""
    return [
        Verified(name, values[name].value if name in values else None, golden) for name, golden in check.values.items()
    ]
