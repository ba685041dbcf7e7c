# SPDX-License-Identifier: Apache-2.0
"""Checks of a whole benchmark before any job starts: every name, and every shape that must fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dcae.benchmark.benchmark_file import BenchmarkFile, Study, each_study, variants
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import Entry


class Cell(Protocol):
    """Names of a generation cell."""

    resolution: int
    autoencoder: str
    diffusion: str
    patch_size: int


@dataclass(frozen=True)
class Source:
    """A benchmark's file, its content, and the entries that it may name."""

    path: Path
    content: BenchmarkFile
    config: Config

    def recipe(self, name: str) -> Entry:
        """Return a recipe of an entry, or the one that the benchmark uses in its place."""
        return self.config.entry("recipes", self.content.recipes.get(name, name))

    def error(self, field: str, message: str) -> ConfigError:
        """Return the error about a field of the file."""
        return ConfigError(f"{self.path}:\n  {field}: {message}")

    def error_in_entry(self, kind: str, name: str, field: str, message: str) -> ConfigError:
        """Return the error about a field of an entry's file."""
        return ConfigError(f"{self.config.file(kind, name)}:\n  {field}: {message}")


def _named(source: Source, field: str, kind: str, name: str) -> Entry:
    try:
        return source.config.entry(kind, name)
    except ConfigError as error:
        raise source.error(field, str(error)) from None


def check_entries(source: Source) -> None:
    """Raise ``ConfigError`` for the first name in the benchmark that is unknown or of the wrong kind."""
    content = source.content
    for field in ("autoencoders", "reconstruction_only", "controls"):
        for name in getattr(content, field):
            _check_autoencoder(source, field, name)
    _check_seeds(source)
    for name in content.reconstruction.datasets:
        _named(source, "reconstruction.datasets", "datasets", name)
    for field, _, study in each_study(content.studies):
        _check_study(source, field, study)
    _check_protocol(source, "reconstruction.protocol", content.reconstruction.protocol, "quality")
    reconstruction = content.reconstruction
    names = [reconstruction.protocol, *reconstruction.additional_protocols]
    _check_additional_protocols(source, "reconstruction.additional_protocols", names, ("crop", "reconstruction_images"))
    for index, plan in enumerate(content.generation):
        entry = _named(source, f"generation.{index}.diffusion", "diffusion", plan.diffusion)
        _check_recipe(source, f"{plan.diffusion}.recipe", entry.recipe, "diffusion")
        if message := entry.unfit(source.recipe(entry.recipe)):
            raise source.error_in_entry("diffusion", plan.diffusion, "recipe", message)
        for field in ("dataset", "evaluated_on"):
            if name := getattr(plan, field):
                _named(source, f"generation.{index}.{field}", "datasets", name)
        known = [*content.autoencoders, *content.reconstruction_only, *variants(content.studies)]
        for field in ("autoencoders", "without"):
            for name in getattr(plan, field) or []:
                if name not in known:
                    message = f"{name!r} is not an autoencoder of this benchmark: {known}"
                    raise source.error(f"generation.{index}.{field}", message)
        for name in plan.autoencoders or []:
            compression = source.config.entry("autoencoders", name).spatial_compression
            if compression not in plan.patch_sizes:
                message = f"no patch size for spatial compression {compression} of {name}: {plan.patch_sizes}"
                raise source.error(f"generation.{index}.patch_sizes", message)
    if content.generation:
        _check_protocol(source, "generation_protocol", content.generation_protocol, "quality")
        names = [content.generation_protocol, *content.additional_generation_protocols]
        shared = (
            "crop",
            "generation_images",
            "generation_reference",
            "generation_reference_images",
            "generation_controls",
        )
        _check_additional_protocols(source, "additional_generation_protocols", names, shared)
        _check_protocol(source, "efficiency_protocol", content.efficiency_protocol, "efficiency")


def _check_seeds(source: Source) -> None:
    content = source.content
    bases = [study.base for _, _, study in each_study(content.studies)]
    known = {*content.with_rows, *bases, *variants(content.studies)}
    for name, seeds in content.seeds.items():
        if name not in known:
            raise source.error("seeds", f"{name!r} is not measured here: name it under autoencoders or in a study")
        entry = _named(source, "seeds", "autoencoders", name)
        while entry.kind == "space-to-channel":
            entry = source.config.entry("autoencoders", entry.autoencoder)
        if not entry.recipe:
            raise source.error("seeds", f"{name!r} is not trained: every seed would give the same weights")
        if content.seed in seeds or len(set(seeds)) < len(seeds):
            raise source.error(f"seeds.{name}", f"each seed once, and not {content.seed}, the benchmark's: {seeds}")


def _check_study(source: Source, field: str, study: Study) -> None:
    _check_autoencoder(source, f"{field}.base", study.base)
    if study.base in source.content.controls:
        raise source.error(f"{field}.base", f"{study.base} is a control, which nothing is a variant of")
    for name in study.variants:
        _check_autoencoder(source, f"{field}.variants", name)
    if study.base in study.variants:
        raise source.error(f"{field}.variants", f"{study.base} is the base")
    for name in study.beside:
        if name not in source.content.with_rows:
            message = f"{name!r} has no row in Table 2: name it under autoencoders or reconstruction_only"
            raise source.error(f"{field}.beside", message)
    measured = source.content.reconstruction.datasets
    for dataset, resolution in study.places(measured):
        if resolution not in measured.get(dataset, {}):
            known = ", ".join(f"{name} at {', '.join(map(str, found))} px" for name, found in measured.items())
            message = f"{dataset} at {resolution} px is not under reconstruction.datasets, which has {known}"
            raise source.error(f"{field}.datasets", message)


def _check_protocol(source: Source, field: str, name: str, kind: str) -> None:
    entry = _named(source, field, "protocols", name)
    if entry.kind != kind:
        raise source.error(field, f"{name!r} is a protocol of kind {entry.kind}, expected {kind}")


def _check_additional_protocols(source: Source, field: str, names: list[str], shared: tuple[str, ...]) -> None:
    """Those of one pass, the main one first, see the same images, and their names tell their values apart."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise source.error(field, f"named more than once, or the main protocol already: {', '.join(repeated)}")
    for name in names[1:]:
        _check_protocol(source, field, name, "quality")
        main, other = (source.config.entry("protocols", each) for each in (names[0], name))
        for shared_field in shared:
            ours, theirs = getattr(main, shared_field), getattr(other, shared_field)
            if ours != theirs:
                message = (
                    f"{name!r} has {shared_field} {theirs}, {main.name!r} has {ours}: one pass has one set of images"
                )
                raise source.error(field, message)


def _check_recipe(source: Source, field: str, name: str, kind: str) -> None:
    recipe = _named(source, field, "recipes", source.content.recipes.get(name, name))
    if recipe.kind != kind:
        raise source.error(field, f"{name!r} is a recipe of kind {recipe.kind}, expected {kind}")


def _check_autoencoder(source: Source, field: str, name: str, seen: tuple[str, ...] = ()) -> None:
    if name in seen:
        raise source.error(field, f"entries refer to each other in a circle: {' -> '.join([*seen, name])}")
    entry = _named(source, field, "autoencoders", name)
    if entry.kind == "space-to-channel":
        _check_space_to_channel(source, name, entry, (*seen, name))
    elif entry.recipe:
        _check_training(source, name, entry)
    elif entry.kind in ("dc-ae", "diffusers") and not entry.pretrained:
        raise source.error(field, f"{name!r} has neither a recipe (to train it) nor pretrained weights")
    if entry.start_from:
        _check_start(source, name, entry, (*seen, name))


def _check_space_to_channel(source: Source, name: str, entry: Entry, seen: tuple[str, ...]) -> None:
    _check_autoencoder(source, f"{name}.autoencoder", entry.autoencoder, seen)
    below = source.config.entry("autoencoders", entry.autoencoder)
    expected = (below.spatial_compression * entry.factor, below.latent_channels * entry.factor**2)
    if (entry.spatial_compression, entry.latent_channels) != expected:
        message = (
            f"{entry.autoencoder} with factor {entry.factor} gives f{expected[0]}c{expected[1]}, "
            f"the entry says f{entry.spatial_compression}c{entry.latent_channels}"
        )
        raise source.error_in_entry("autoencoders", name, "spatial_compression", message)
    if entry.recipe:
        message = f"a space-to-channel entry is not trained; give the recipe to {entry.autoencoder}"
        raise source.error_in_entry("autoencoders", name, "recipe", message)


def _check_training(source: Source, name: str, entry: Entry) -> None:
    _check_recipe(source, f"{name}.recipe", entry.recipe, "autoencoder")
    recipe = source.recipe(entry.recipe)
    for dataset in recipe.datasets:
        _named(source, f"{entry.recipe}.datasets", "datasets", dataset)
    for number, phase in enumerate(recipe.phases):
        if phase.resolution % entry.spatial_compression:
            message = f"spatial_compression {entry.spatial_compression} of {name} does not divide {phase.resolution}"
            raise source.error_in_entry("recipes", recipe.name, f"phases.{number}.resolution", message)
    first = recipe.phases[0]
    if first.trains != "all" and not entry.start_from:
        message = f"{first.trains} of {name} cannot be trained first; begin with all, or give the entry a start_from"
        raise source.error_in_entry("recipes", recipe.name, "phases.0.trains", message)


def _check_start(source: Source, name: str, entry: Entry, seen: tuple[str, ...]) -> None:
    _check_autoencoder(source, f"{name}.start_from.autoencoder", entry.start_from.autoencoder, seen)
    other = source.config.entry("autoencoders", entry.start_from.autoencoder)
    phases = [phase.name for phase in source.recipe(other.recipe).phases] if other.recipe else []
    if entry.start_from.phase not in phases:
        message = f"{entry.start_from.phase!r} is not a phase of {other.name}, which has {phases}"
        raise source.error_in_entry("autoencoders", name, "start_from.phase", message)


def check_divides(source: Source, autoencoder: str, resolution: int, field: str) -> None:
    """Raise ``ConfigError`` if an autoencoder's spatial compression does not divide a resolution."""
    compression = source.config.entry("autoencoders", autoencoder).spatial_compression
    if resolution % compression:
        raise source.error(
            field,
            f"spatial_compression {compression} of {autoencoder} does not divide resolution {resolution}",
        )


def check_speed(source: Source, cells: Iterable[Cell]) -> None:
    """Raise ``ConfigError`` unless the efficiency protocol measures denoisers and has a batch size for every cell."""
    for cell in cells:
        protocol = source.config.entry("protocols", source.content.efficiency_protocol)
        if protocol.measures != "denoiser":
            message = f"{protocol.name!r} measures {protocol.measures}; cells of a benchmark need one of the denoiser"
            raise source.error("efficiency_protocol", message)
        side = (
            cell.resolution
            // source.config.entry("autoencoders", cell.autoencoder).spatial_compression
            // cell.patch_size
        )
        entry = source.config.entry("diffusion", cell.diffusion)
        try:
            for work in ("training", "inference"):
                protocol.batch_size(work, entry.paper_name or entry.name, side)
        except ValueError as error:
            raise source.error("efficiency_protocol", str(error)) from None
