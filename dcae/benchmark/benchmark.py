# SPDX-License-Identifier: Apache-2.0
"""A benchmark: one YAML file that names entries, with the trainings and cells that follow from it.

Cells are named by strings, as in records and file names. ``Benchmark.resolve`` returns a cell with its entries, so that
nothing downstream looks a name up again.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from dcae.benchmark.benchmark_file import BenchmarkFile, GenerationPlan, each_study, further_bases, variants
from dcae.benchmark.cells import (
    Cells,
    GenerationCell,
    ReconstructionCell,
    ResolvedAutoencoder,
    ResolvedCell,
    ResolvedGeneration,
    Training,
)
from dcae.benchmark.checks import Source, check_divides, check_entries, check_speed
from dcae.benchmark.config import SEED, Config, ConfigError, check_name, read_benchmark, split_seed, validate
from dcae.benchmark.entries import Entry, Protocol


class Benchmark:
    """A benchmark file, checked whole: unknown entries and shapes that do not fit are errors before any job starts."""

    def __init__(self, path: Path, content: BenchmarkFile, config: Config):
        self.path = Path(path)
        self.name = check_name(self.path.stem, self.path)
        self.content = content
        self.config = config
        self._source = Source(self.path, content, config)
        check_entries(self._source)
        self.cells = Cells(self._reconstruction_cells(), self._generation_cells())
        check_speed(self._source, self.cells.generation)

    @classmethod
    def load(cls, path: Path | str, config: Config | None = None) -> Benchmark:
        """Read a benchmark and every entry it names.

        Args:
            config: where its entries are; by default beside it and in the repository.

        Raises:
            ConfigError: naming the file, the field and the allowed values.
        """
        path = Path(path)
        content = validate(TypeAdapter(BenchmarkFile), read_benchmark(path), path)
        return cls(path, content, config or Config(path.parent))

    # --- entries by name ---

    @property
    def seed(self) -> int:
        return self.content.seed

    @functools.cached_property
    def all_autoencoders(self) -> list[str]:
        """Names in the order of the file, and those that others are built on or start from."""
        studies = self.content.studies
        named = self.content.with_rows
        ordered: dict[str, None] = {}
        for name in [*named, *further_bases(studies, named), *variants(studies), *self._of_further_seeds]:
            for needed in self._with_those_below(name):
                ordered.setdefault(needed)
        return list(ordered)

    @property
    def _of_further_seeds(self) -> list[str]:
        return [f"{name}{SEED}{seed}" for name, seeds in self.content.seeds.items() for seed in seeds]

    def seed_of(self, autoencoder: str) -> int:
        """Return the seed of an autoencoder: that in its name, or the benchmark's."""
        seed = split_seed(autoencoder)[1]
        return self.seed if seed is None else seed

    def autoencoder(self, name: str):
        return self.config.entry("autoencoders", name)

    def diffusion(self, name: str):
        return self.config.entry("diffusion", name)

    def dataset(self, name: str):
        return self.config.entry("datasets", name)

    def recipe(self, name: str):
        """Return a recipe of an entry, or the one that the benchmark uses in its place."""
        return self._source.recipe(name)

    def protocol(self, kind: str):
        """Return the main protocol of ``reconstruction``, ``generation`` or ``efficiency`` cells."""
        names = {
            "reconstruction": self.content.reconstruction.protocol,
            "generation": self.content.generation_protocol,
            "efficiency": self.content.efficiency_protocol,
        }
        return self.config.entry("protocols", names[kind])

    def additional_protocols(self, kind: str) -> list[Protocol]:
        """Return the protocols that ``reconstruction`` or ``generation`` cells are measured by besides the main one."""
        names = {
            "reconstruction": self.content.reconstruction.additional_protocols,
            "generation": self.content.additional_generation_protocols,
        }
        return [self.config.entry("protocols", name) for name in names[kind]]

    def protocols(self, kind: str) -> list[Protocol]:
        """Return all protocols of ``reconstruction`` or ``generation`` cells, the main one first."""
        return [self.protocol(kind), *self.additional_protocols(kind)]

    @property
    def has_subsets(self) -> bool:
        """True if a protocol of reconstruction also measures subsets of the images."""
        return any(each.subsets for each in self.protocols("reconstruction"))

    def group(self, autoencoder: str) -> str:
        """``autoencoders`` and ``controls`` have rows in Table 2; ``ablations`` and ``bases`` are in studies alone."""
        entry, _ = split_seed(autoencoder)
        if entry in self.content.controls:
            return "controls"
        if entry in self.content.with_rows:
            return "autoencoders"
        return "ablations" if entry in variants(self.content.studies) else "bases"

    def _with_those_below(self, name: str) -> list[str]:
        entry = self.autoencoder(name)
        below = entry.autoencoder if entry.kind == "space-to-channel" else None
        start = entry.start_from.autoencoder if entry.start_from else None
        return [*(self._with_those_below(below or start) if below or start else []), name]

    def entries_used(self) -> list[tuple[str, Entry]]:
        """Return kind (the folder under ``config``) and entry of every entry that the benchmark uses, each once."""
        content = self.content
        autoencoders = [self.autoencoder(name) for name in self.all_autoencoders if SEED not in name]
        diffusion = [self.diffusion(plan.diffusion) for plan in content.generation]
        recipes = [self.recipe(entry.recipe) for entry in (*autoencoders, *diffusion) if entry.recipe]
        trained_on = [name for recipe in recipes for name in getattr(recipe, "datasets", {})]
        generated = [name for plan in content.generation for name in (plan.dataset, plan.evaluated_on) if name]
        purposes = ("reconstruction", *(("generation", "efficiency") if content.generation else ()))
        used = [
            *(("autoencoders", entry) for entry in autoencoders),
            *(("recipes", entry) for entry in recipes),
            *(("diffusion", entry) for entry in diffusion),
            *(("datasets", self.dataset(name)) for name in (*content.reconstruction.datasets, *generated, *trained_on)),
            *(("protocols", self.protocol(purpose)) for purpose in purposes),
            *(
                ("protocols", each)
                for kind in ("reconstruction", "generation")
                for each in self.additional_protocols(kind)
            ),
        ]
        return list({(kind, entry.name): (kind, entry) for kind, entry in used}.values())

    def notices(self) -> list[str]:
        """Return a line for each autoencoder with gated or restricted weights, or that some resolution leaves out.

        And one for each diffusion model on tokens of more values than it is wide: what it predicts has no more
        dimensions than its last layer's input, so that a part of the noise stays unknown to it (RAE, arXiv 2510.11690,
        section 4).
        """
        found = []
        asked = {side for sides in self.content.reconstruction.datasets.values() for side in sides}
        for name in self.all_autoencoders:
            entry = self.autoencoder(name)
            if entry.gated:
                pretrained = getattr(entry, "pretrained", None)
                place = pretrained.id if pretrained else entry.source
                found.append(f"{name}: gated, accept the licence on the page of {place}, then `hf auth login`")
            if entry.restriction:
                found.append(f"{name}: {entry.restriction}")
            if entry.resolutions and (others := sorted(asked - set(entry.resolutions))):
                taken, left_out = (", ".join(map(str, sides)) for sides in (entry.resolutions, others))
                found.append(f"{name}: takes {taken} px alone, not measured at {left_out} px")
        for cell in self.cells.generation:
            values = cell.patch_size**2 * self.autoencoder(cell.autoencoder).latent_channels
            width = self.diffusion(cell.diffusion).width
            if values > width and not self.is_released(cell.diffusion):
                found.append(
                    f"{cell.diffusion} p{cell.patch_size} on {cell.autoencoder}: a token has {values} values and the "
                    f"model a width of {width}, too few to predict their noise; choose a wider model or fewer channels"
                )
        return found

    # --- trainings ---

    def training(self, autoencoder: str, phase: str | None = None) -> Training:
        """Return the training of an autoencoder's phase, by default the last one, with the chain before it."""
        entry = self.autoencoder(autoencoder)
        recipe = self.recipe(entry.recipe)
        phases = [each.name for each in recipe.phases]
        if phase is not None and phase not in phases:
            raise ConfigError(f"recipe {recipe.name} of {autoencoder} has no phase {phase!r}: {phases}")
        position = len(phases) - 1 if phase is None else phases.index(phase)
        if position > 0:
            start = self.training(autoencoder, phases[position - 1])
        elif entry.start_from:
            start = self.training(entry.start_from.autoencoder, entry.start_from.phase)
        else:
            start = None
        datasets = {name: self.dataset(name) for name in recipe.datasets}
        return Training(autoencoder, phases[position], start, entry, recipe, datasets, self.seed_of(autoencoder))

    def final_training(self, autoencoder: str) -> Training | None:
        """Return the training that makes an autoencoder's weights; ``None`` if it is not trained."""
        return self.resolve_autoencoder(autoencoder).training

    @property
    def trainings(self) -> list[Training]:
        """Every training of the benchmark, each once."""
        finals = (self.final_training(name) for name in self.all_autoencoders)
        return list(dict.fromkeys(each for final in finals if final for each in reversed(final.chain)))

    def is_released(self, diffusion: str) -> bool:
        """True if a diffusion model has released weights, so that it is not trained."""
        return self.diffusion(diffusion).pretrained is not None

    # --- resolved cells ---

    @functools.cache  # noqa: B019
    def resolve_autoencoder(self, name: str) -> ResolvedAutoencoder:
        """Return an autoencoder with the entries below it and its training."""
        below = [self.autoencoder(name)]
        while below[-1].kind == "space-to-channel":
            below.append(self.autoencoder(below[-1].autoencoder))
        base = below[-1]
        training = self.training(base.name) if base.recipe else None
        return ResolvedAutoencoder(below[0], tuple(below), training, self.group(name))

    def resolve(self, cell: ReconstructionCell | GenerationCell) -> ResolvedCell:
        """Return a cell with its entries: a ``ResolvedGeneration`` for a generation cell.

        Cells that the benchmark does not ask for resolve as well, so that a command can be tried by hand.

        Raises:
            ConfigError: an unknown name.
        """
        autoencoder, dataset = self.resolve_autoencoder(cell.autoencoder), self.dataset(cell.dataset)
        if isinstance(cell, ReconstructionCell):
            seed = self.seed_of(cell.autoencoder)
            return ResolvedCell(cell, autoencoder, dataset, seed, self.protocols("reconstruction"))
        diffusion = self.diffusion(cell.diffusion)
        return ResolvedGeneration(
            cell,
            autoencoder,
            dataset,
            self.seed_of(cell.autoencoder),
            self.generation_protocols(cell),
            diffusion,
            self.recipe(diffusion.recipe),
            self.dataset(self.evaluation_dataset(cell)),
            self.protocol("efficiency"),
            self.generation_plans(cell),
        )

    # --- cells ---

    def evaluation_dataset(self, cell: GenerationCell) -> str:
        """Return the name of the dataset that a cell's samples are compared with."""
        evaluated_on = [plan.evaluated_on for plan in self.generation_plans(cell) if plan.evaluated_on]
        return evaluated_on[0] if evaluated_on else cell.dataset

    def generation_protocols(self, cell: GenerationCell) -> list[Protocol]:
        """Return the protocols of a cell, the main one first, with the number of samples that its block asks for."""
        images = next((plan.generation_images for plan in self.generation_plans(cell)), None)
        protocols = self.protocols("generation")
        return [each.model_copy(update={"generation_images": images}) if images else each for each in protocols]

    def generation_plans(self, cell: GenerationCell) -> list[GenerationPlan]:
        """Return the blocks of the file that ask for a cell."""
        return self._plans.get(cell, [])

    @functools.cached_property
    def _plans(self) -> dict[GenerationCell, list[GenerationPlan]]:
        found: dict[GenerationCell, list[GenerationPlan]] = {}
        for plan in self.content.generation:
            for cell in self._cells_of(plan):
                found.setdefault(cell, []).append(plan)
        return found

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
            message = f"{name} takes {sides} px alone, which no dataset here has"
            if not any(places.values()):
                message = "no dataset with a resolution; name at least one, as in photographs: {64: null}"
            raise self._source.error("reconstruction.datasets", message)
        for place, _, study in each_study(self.content.studies):
            for dataset, resolution in study.places(places):
                for name in (study.base, *study.variants):
                    cells.setdefault(ReconstructionCell(dataset, resolution, name), place)
        for cell, place in list(cells.items()):
            for seed in self.content.seeds.get(cell.autoencoder, []):
                cells.setdefault(replace(cell, autoencoder=f"{cell.autoencoder}{SEED}{seed}"), place)
        for cell, place in cells.items():
            if not self.autoencoder(cell.autoencoder).padding:
                check_divides(self._source, cell.autoencoder, cell.resolution, place)
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
                check_divides(self._source, cell.autoencoder, cell.resolution, f"generation.{index}.resolution")
                side = cell.resolution // self.autoencoder(cell.autoencoder).spatial_compression
                if side % cell.patch_size:
                    raise self._source.error(
                        f"generation.{index}.patch_sizes",
                        f"{cell.patch_size} does not divide the {side} x {side} latents of {cell.autoencoder}",
                    )
                first = cells.setdefault(cell, plan)
                for name in ("evaluated_on", "generation_images", "published"):
                    mine, other = getattr(plan, name), getattr(first, name)
                    if mine != other:
                        message = f"{mine}, but another block that asks for {cell} says {other}: one cell has one"
                        raise self._source.error(f"generation.{index}.{name}", message)
        return list(cells)
