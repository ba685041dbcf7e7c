# SPDX-License-Identifier: Apache-2.0
"""A benchmark: one YAML file that names entries, and the cells and trainings that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from dcae.benchmark.benchmark_file import BenchmarkFile, GenerationPlan
from dcae.benchmark.checks import check_divides, check_entries, check_speed, error_in
from dcae.benchmark.config import Config, read_yaml, validate
from dcae.benchmark.studies import each_study, further_bases, variants


@dataclass(frozen=True)
class Training:
    """One phase of an autoencoder's recipe, and the training whose weights it starts from."""

    autoencoder: str
    phase: str
    start: Training | None


@dataclass(frozen=True)
class ReconstructionCell:
    """An autoencoder on a data set at a resolution."""

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
    """Everything a benchmark measures. Efficiency is measured for the same cells as generation."""

    reconstruction: list[ReconstructionCell]
    generation: list[GenerationCell]


class Benchmark:
    """A benchmark file, checked whole: unknown entries and shapes that do not fit are errors before any job starts."""

    def __init__(self, path: Path, content: BenchmarkFile, config: Config):
        self.path = Path(path)
        self.name = self.path.stem
        self.content = content
        self.config = config
        check_entries(self)
        self.cells = Cells(self._reconstruction_cells(), self._generation_cells())
        check_speed(self, self.cells.generation)

    @classmethod
    def load(cls, path: Path | str) -> Benchmark:
        """Read a benchmark and every entry it names.

        Raises:
            ConfigError: naming the file, the field and what is allowed.
        """
        path = Path(path)
        allowed = "  allowed fields: " + ", ".join(BenchmarkFile.model_fields)
        content = validate(TypeAdapter(BenchmarkFile), read_yaml(path), path, lambda: allowed)
        return cls(path, content, Config(path.parent))

    # --- the entries a name stands for ---

    @property
    def seed(self) -> int:
        return self.content.seed

    @property
    def all_autoencoders(self) -> list[str]:
        """Names in the order of the file, and those that others are built on or start from."""
        studies = self.content.studies
        named = self.content.with_rows
        ordered: dict[str, None] = {}
        for name in [*named, *further_bases(studies, named), *variants(studies)]:
            for needed in self._with_those_below(name):
                ordered.setdefault(needed)
        return list(ordered)

    def autoencoder(self, name: str):
        return self.config.entry("autoencoders", name)

    def diffusion(self, name: str):
        return self.config.entry("diffusion", name)

    def dataset(self, name: str):
        return self.config.entry("datasets", name)

    def recipe(self, name: str):
        return self.config.entry("recipes", name)

    def protocol(self, kind: str):
        """The protocol of ``reconstruction``, ``generation`` or ``efficiency`` cells."""
        names = {
            "reconstruction": self.content.reconstruction.protocol,
            "generation": self.content.generation_protocol,
            "efficiency": self.content.efficiency_protocol,
        }
        return self.config.entry("protocols", names[kind])

    def further_protocols(self, kind: str) -> list:
        """Protocols that ``reconstruction`` or ``generation`` cells are measured by besides their main one."""
        names = {
            "reconstruction": self.content.reconstruction.further_protocols,
            "generation": self.content.further_generation_protocols,
        }
        return [self.config.entry("protocols", name) for name in names[kind]]

    @property
    def has_subsets(self) -> bool:
        """Whether a protocol of reconstruction measures some images by themselves, too."""
        return any(
            each.subsets for each in (self.protocol("reconstruction"), *self.further_protocols("reconstruction"))
        )

    def group(self, autoencoder: str) -> str:
        """``autoencoders`` and ``controls`` have rows in Table 2; ``ablations`` and ``bases`` are in studies alone."""
        if autoencoder in self.content.controls:
            return "controls"
        if autoencoder in self.content.with_rows:
            return "autoencoders"
        return "ablations" if autoencoder in variants(self.content.studies) else "bases"

    def _with_those_below(self, name: str) -> list[str]:
        entry = self.autoencoder(name)
        below = entry.autoencoder if entry.kind == "space-to-channel" else None
        start = entry.start_from.autoencoder if entry.start_from else None
        return [*(self._with_those_below(below or start) if below or start else []), name]

    # --- trainings ---

    def trained_entry(self, autoencoder: str):
        """The entry whose training gives this autoencoder its weights (itself, or the one below), or ``None``."""
        entry = self.autoencoder(autoencoder)
        if entry.kind == "space-to-channel":
            return self.trained_entry(entry.autoencoder)
        return entry if entry.recipe else None

    def training(self, autoencoder: str, phase: str | None = None) -> Training:
        """The training of an autoencoder's phase, by default the last one, with the chain before it."""
        entry = self.autoencoder(autoencoder)
        phases = [each.name for each in self.recipe(entry.recipe).phases]
        position = len(phases) - 1 if phase is None else phases.index(phase)
        if position > 0:
            start = self.training(autoencoder, phases[position - 1])
        elif entry.start_from:
            start = self.training(entry.start_from.autoencoder, entry.start_from.phase)
        else:
            start = None
        return Training(autoencoder, phases[position], start)

    def final_training(self, autoencoder: str) -> Training | None:
        """The training that makes the weights this autoencoder is measured with; ``None`` if it is not trained."""
        entry = self.trained_entry(autoencoder)
        return self.training(entry.name) if entry else None

    def is_released(self, diffusion: str) -> bool:
        """Whether a diffusion model comes with released weights, so that nothing is trained."""
        return self.diffusion(diffusion).pretrained is not None

    # --- cells ---

    def evaluation_dataset(self, cell: GenerationCell) -> str:
        """The data set that a cell's samples are measured against."""
        return self.generation_plans(cell)[0].evaluated_on or cell.dataset

    def generation_protocols(self, cell: GenerationCell) -> list:
        """Of a generation cell, the main one first, with the number of samples that its block asks for."""
        protocols = [self.protocol("generation"), *self.further_protocols("generation")]
        images = self.generation_plans(cell)[0].generation_images
        return [each.model_copy(update={"generation_images": images}) if images else each for each in protocols]

    def generation_plans(self, cell: GenerationCell) -> list[GenerationPlan]:
        """The blocks of the file that ask for a cell (one cell may belong to several tables)."""
        return [plan for plan in self.content.generation if cell in self._cells_of(plan)]

    def _reconstruction_cells(self) -> list[ReconstructionCell]:
        places = self.content.reconstruction.datasets
        cells: dict[ReconstructionCell, str] = {}  # and the field that asks for it
        for dataset, resolutions in places.items():
            for resolution in resolutions:
                for name in self.content.with_rows:
                    if resolution in (self.autoencoder(name).resolutions or [resolution]):
                        cells[ReconstructionCell(dataset, resolution, name)] = f"reconstruction.datasets.{dataset}"
        for name in set(self.content.with_rows) - {cell.autoencoder for cell in cells}:
            sides = self.autoencoder(name).resolutions
            message = f"{name} takes {sides} px alone, which no data set here has"
            raise error_in(self, "reconstruction.datasets", message)
        for field, _, study in each_study(self.content.studies):
            for dataset, resolution in study.places(places):
                for name in (study.base, *study.variants):
                    cells.setdefault(ReconstructionCell(dataset, resolution, name), field)
        for cell, field in cells.items():
            if not self.autoencoder(cell.autoencoder).padding:
                check_divides(self, cell.autoencoder, cell.resolution, field)
        return list(cells)

    def _cells_of(self, plan: GenerationPlan) -> list[GenerationCell]:
        names = plan.autoencoders if plan.autoencoders is not None else self.content.autoencoders
        return [
            GenerationCell(plan.dataset, plan.resolution, name, plan.diffusion, patch_size)
            for name in names
            if name not in plan.without
            for patch_size in plan.patch_sizes.get(self.autoencoder(name).spatial_compression, [])
        ]

    def _generation_cells(self) -> list[GenerationCell]:
        cells: dict[GenerationCell, GenerationPlan] = {}  # and the block that asks for it first
        for index, plan in enumerate(self.content.generation):
            for cell in self._cells_of(plan):
                check_divides(self, cell.autoencoder, cell.resolution, f"generation.{index}.resolution")
                side = cell.resolution // self.autoencoder(cell.autoencoder).spatial_compression
                if side % cell.patch_size:
                    raise error_in(
                        self,
                        f"generation.{index}.patch_sizes",
                        f"{cell.patch_size} does not divide the {side} x {side} latents of {cell.autoencoder}",
                    )
                first = cells.setdefault(cell, plan)
                for field in ("evaluated_on", "generation_images", "published"):
                    mine, other = getattr(plan, field), getattr(first, field)
                    if mine != other:
                        message = f"{mine}, but another block that asks for {cell} says {other}: one cell has one"
                        raise error_in(self, f"generation.{index}.{field}", message)
        return list(cells)
