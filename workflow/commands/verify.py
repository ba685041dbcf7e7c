# SPDX-License-Identifier: Apache-2.0
"""``dcae verify``: measure released weights on this machine and compare with their published values.

The published (golden) values, their tolerances and the reasons for these are in ``config/golden.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter

from dcae.benchmark import Config
from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml, validate
from dcae.benchmark.entries import Protocol, Settings
from dcae.benchmark.record import Value, write_atomically
from dcae.weights.hub import hub_commit, released_file, weights_sha256
from evaluation.provenance import sources_digest
from workflow.commands import options

if TYPE_CHECKING:
    from dcae.data.dataset import ImageDataset

GOLDEN = REPOSITORY_CONFIG / "golden.yaml"


class VerificationError(RuntimeError):
    """A requirement of a check is missing, or a value is not the published one."""


# --- golden values ---


class GoldenValue(Settings):
    """A published value, and how far a measured one may differ from it."""

    value: float
    tolerance: PositiveFloat
    reason: str = Field(min_length=1, description="why it may differ by so much")


class GoldenCheck(Settings):
    """The published values of an autoencoder with released weights, by the name of its entry."""

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
    """Read the checks by the name of their autoencoder; raises ``ConfigError`` naming file and field."""
    return validate(TypeAdapter(GoldenFile), read_yaml(path), path).checks


@dataclass(frozen=True)
class Verified:
    """A measured value and its golden one."""

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


def compare_with_golden(values: Mapping[str, Value], check: GoldenCheck) -> list[Verified]:
    """Return every golden value with the measured one."""
    return [
        Verified(name, values[name].value if name in values else None, golden) for name, golden in check.values.items()
    ]


def missing_parts(check: GoldenCheck, config: Config) -> list[str]:
    """Return the requirements of a check that this machine lacks, each with its source and its place."""
    from dcae.data.storage.files import DatasetError
    from dcae.weights.catalogue import WeightsError, find

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
        return [*found, f"missing dataset {check.dataset!r}: {error}"]
    if len(dataset) < check.images or protocol.reconstruction_images < check.images:
        used = min(len(dataset), protocol.reconstruction_images)
        found.append(
            f"dataset {check.dataset!r} and protocol {check.protocol!r} give {used} validation images, "
            f"the published values are of {check.images}"
        )
    return found


def check_dataset(check: GoldenCheck, config: Config) -> ImageDataset:
    """Open the validation images of a check; raises ``DatasetError`` if they are not there."""
    from dcae.data.loading import open_dataset

    return open_dataset(config.entry("datasets", check.dataset), "validation", check.resolution)


# --- the command ---


def verify(
    golden: Annotated[
        Path, typer.Option(help="YAML of published values, in the folder of the entries that it names")
    ] = GOLDEN,
    folder: Annotated[Path, typer.Option(help="folder for features and unfinished work")] = Path("results/verify"),
) -> None:
    """Measure released weights on ImageNet and compare the values with the published ones.

    Lists missing data and weights, and where to put them. The same command resumes a run that was killed.
    """
    checks = read_golden(golden)
    config = Config(golden.parent)
    missing = {reason: None for check in checks.values() for reason in missing_parts(check, config)}
    if missing:
        listed = "\n".join(f"- {reason}" for reason in missing)
        raise VerificationError(f"nothing was verified; this machine lacks\n{listed}")
    failed = [name for name, check in checks.items() if not _verify(name, check, config, folder / name)]
    if failed:
        raise VerificationError(
            f"{', '.join(failed)}: values differ from the published ones by more than the tolerance; "
            "do not trust numbers of this machine before it is known why"
        )
    print("verified: the published values are reproduced")


def _verify(name: str, check: GoldenCheck, config: Config, folder: Path) -> bool:
    """Print each value with the published one. Returns whether all of them hold."""
    from dcae.autoencoders.loading import load
    from evaluation.features.reference import write_reference
    from evaluation.quality.reconstruction import evaluate_reconstruction

    device = options.device()
    entry, protocol = config.entry("autoencoders", name), config.entry("protocols", check.protocol)
    autoencoder = load(entry, config=config, device=device)  # before hours are spent on the reference
    dataset = check_dataset(check, config)
    code = sources_digest()  # results of other code would verify nothing
    reference, made_by = folder / "reference.safetensors", folder / "code"
    if not (reference.is_file() and made_by.is_file() and made_by.read_text(encoding="utf-8") == code):
        write_reference(dataset, check.images, protocol, reference, workers=options.readers(device), device=device)
        write_atomically(made_by, code)
    released, weights = released_file(autoencoder), weights_sha256(autoencoder) or "none"
    if released:
        commit = hub_commit(released, weights) or "not known"
        print(f"{name}: {released}, sha256 {weights}, commit {commit}", flush=True)
    result = evaluate_reconstruction(
        autoencoder,
        dataset,
        protocol.model_copy(update={"reconstruction_images": check.images}),
        reference,
        workers=options.readers(device),
        device=device,
        padding=entry.padding,
        state=folder / "images",
        identity={
            "autoencoder": entry.decisive(),
            "weights": weights,
            "code": code,
        },
    )
    print(f"{name} on {check.dataset} at {check.resolution} px, protocol {check.protocol}; published: {check.source}")
    found = compare_with_golden(result.values, check)
    for each in found:
        print(each)
    return all(each.holds for each in found)
