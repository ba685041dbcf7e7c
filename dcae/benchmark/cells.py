# SPDX-License-Identifier: Apache-2.0
"""Trainings and cells of a benchmark: by their names, as in records and file names, and resolved to their entries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcae.benchmark.benchmark_file import GenerationPlan
from dcae.benchmark.entries import (
    AutoencoderFields,
    AutoencoderRecipe,
    DatasetEntry,
    DiffusionEntry,
    DiffusionRecipe,
    EfficiencyProtocol,
    Phase,
    Pretrained,
    Protocol,
)


@dataclass(frozen=True)
class Training:
    """One phase of an autoencoder's recipe, and the training whose weights it starts from.

    Trainings of one benchmark are equal if their names are.
    """

    autoencoder: str
    phase: str
    start: Training | None
    entry: AutoencoderFields = field(compare=False, repr=False)
    recipe: AutoencoderRecipe = field(compare=False, repr=False)
    datasets: dict[str, DatasetEntry] = field(compare=False, repr=False)
    seed: int = field(compare=False, repr=False)

    @property
    def settings(self) -> Phase:
        """The phase's fields in the recipe."""
        return next(each for each in self.recipe.phases if each.name == self.phase)

    @property
    def chain(self) -> list[Training]:
        """Trainings from the first one to this one."""
        return [*(self.start.chain if self.start else []), self]


@dataclass(frozen=True)
class ReconstructionCell:
    """An autoencoder on a dataset at a resolution."""

    dataset: str
    resolution: int
    autoencoder: str


@dataclass(frozen=True)
class GenerationCell:
    """A diffusion model at a patch size on an autoencoder's latents."""

    dataset: str
    resolution: int
    autoencoder: str
    diffusion: str
    patch_size: int


@dataclass(frozen=True)
class Cells:
    """All cells of a benchmark. Efficiency is measured for the same cells as generation."""

    reconstruction: list[ReconstructionCell]
    generation: list[GenerationCell]


@dataclass(frozen=True)
class ResolvedAutoencoder:
    """An autoencoder of a benchmark with everything that decides its weights.

    Args:
        entry: its own entry.
        below: entries from this one down to the one that has the weights (more than one for space-to-channel).
        training: the training that makes the weights; ``None`` for controls, released and supplied weights.
        group: ``autoencoders`` and ``controls`` have rows in Table 2, ``ablations`` and ``bases`` in studies alone.
    """

    entry: AutoencoderFields
    below: tuple[AutoencoderFields, ...]
    training: Training | None
    group: str

    @property
    def base(self) -> AutoencoderFields:
        """The entry that has the weights."""
        return self.below[-1]

    @property
    def pretrained(self) -> Pretrained | None:
        """The released weights, if there are any."""
        return getattr(self.base, "pretrained", None)

    @property
    def files(self) -> list[Path]:
        """Local files and folders that the entry names: arguments of a ``python`` entry, unpinned released weights."""
        named = list(_texts(getattr(self.base, "arguments", {})))
        if self.pretrained and not self.pretrained.sha256:
            named.append(str(Path(self.pretrained.id) / (self.pretrained.subfolder or "")))
        return [Path(name) for name in named if os.path.isfile(name) or os.path.isdir(name)]


def _texts(value: Any) -> Iterator[str]:
    """Every string in the arguments of a user's callable."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


@dataclass(frozen=True)
class ResolvedCell:
    """An autoencoder on a dataset at a resolution, with their entries."""

    names: ReconstructionCell | GenerationCell
    autoencoder: ResolvedAutoencoder
    dataset: DatasetEntry
    seed: int
    protocols: list[Protocol]  # the main one first

    @property
    def resolution(self) -> int:
        """Pixels per side."""
        return self.names.resolution

    @property
    def latent_size(self) -> int:
        """Side of the latents."""
        return self.resolution // self.autoencoder.entry.spatial_compression


@dataclass(frozen=True)
class ResolvedGeneration(ResolvedCell):
    """A generation cell with its entries.

    Args:
        evaluated_on: the dataset that samples are compared with.
        efficiency: the protocol that the model's speed is measured by.
        plans: blocks of the benchmark's file that ask for the cell; it may belong to several tables.
    """

    diffusion: DiffusionEntry
    recipe: DiffusionRecipe
    evaluated_on: DatasetEntry
    efficiency: EfficiencyProtocol
    plans: list[GenerationPlan]

    @property
    def patch_size(self) -> int:
        return self.names.patch_size

    @property
    def is_released(self) -> bool:
        """True if the diffusion model has released weights, so that it is not trained."""
        return self.diffusion.pretrained is not None
