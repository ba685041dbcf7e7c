# SPDX-License-Identifier: Apache-2.0
"""Input files and parameters of rules as functions of Snakemake's wildcards, and the files of a whole benchmark."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dcae.benchmark import (
    Benchmark,
    GenerationCell,
    ReconstructionCell,
    ResolvedCell,
    ResolvedGeneration,
    Training,
)
from dcae.benchmark.entries import DatasetEntry
from evaluation.figures.registry import FIGURES
from evaluation.tables.registry import tables_of
from workflow import gpu_pool, layout
from workflow.extended import in_force
from workflow.planning.resources import Resources
from workflow.planning.site import Site
from workflow.planning.sizing import Size
from workflow.staleness import configuration
from workflow.staleness.configuration import CaptionsCell, ReferenceCell
from workflow.staleness.images import images_state
from workflow.staleness.steps import Step

if TYPE_CHECKING:
    from dcae.data.split_index import Split

AUTOENCODER_FILES = (layout.CONFIG, layout.AUTOENCODER_WEIGHTS)


def folder_option(option: str, name: str) -> Callable[[Any, Any], str]:
    """Return the parameter that passes the folder of a rule's input of this name; empty where there is no such file."""

    def parameter(wildcards, input) -> str:
        files = input.get(name) or []
        first = files if isinstance(files, str) else next(iter(files), None)
        return f"{option} {os.path.dirname(first)}" if first else ""

    return parameter


class Jobs:
    """Jobs of one benchmark.

    ``training``, ``reference``, ``captions_cell``, ``cell`` and ``generation_cell`` return the subject of a job;
    Snakemake compares ``configuration`` and the step's version to tell stale results.
    """

    def __init__(self, path: str, site: str | None = None):
        self.benchmark = Benchmark.load(in_force(path))
        self.path = path
        self.on_a_cluster = site is not None
        self.site = Site.read(site) if site else Site.here()
        self._resources = Resources(self.benchmark, self.site)
        self._states: dict[tuple[str, Split], str] = {}

    def pattern(self, wildcard: str) -> str:
        """Return the regular expression of the names that a wildcard may take."""
        cells = [*self.benchmark.cells.reconstruction, *self.benchmark.cells.generation]
        names = {
            "autoencoder": set(self.benchmark.all_autoencoders),
            "phase": {training.phase for training in self.benchmark.trainings},
            "dataset": {cell.dataset for cell in cells}
            | {self.benchmark.evaluation_dataset(cell) for cell in self.benchmark.cells.generation},
            "diffusion": {cell.diffusion for cell in self.benchmark.cells.generation},
        }[wildcard]
        return "|".join(re.escape(name) for name in sorted(names)) or "none"

    def launcher(self, wildcards, resources) -> str:
        """Return how a job starts: one process, one for each GPU of a node, or tasks on many nodes."""
        if resources.get("mpi"):
            # srun by itself starts one task per node with one core each, whatever the job was given.
            tasks = f"--ntasks-per-node={resources.tasks_per_node} --cpus-per-task={resources.cpus_per_task}"
            return f"{resources.mpi} --nodes={resources.nodes} {tasks} --kill-on-bad-exit=1 dcae"
        gpus = resources.get("gpu", 1)
        if gpus <= 1:
            return "dcae"
        taking = f"python -m workflow.gpu_pool {gpus} " if os.environ.get(gpu_pool.POOL) else ""
        return f"{taking}torchrun --standalone --nproc-per-node {gpus} --no-python -- dcae"

    def accumulation(self, wildcards, resources) -> str:
        """Return the option of a denoiser's training whose batch does not fit at once; it changes rounding alone."""
        cell = self.generation_cell(wildcards)
        processes = resources.nodes * resources.tasks_per_node if resources.get("mpi") else resources.get("gpu", 1)
        parts = self._resources.accumulation("train_denoiser", cell, max(processes, 1))
        return f"--gradient-accumulation {parts}" if parts > cell.recipe.gradient_accumulation else ""

    # --- resources ---

    def sized(self, rule: str, subject: Callable[[Any], Any]) -> Callable[[str], Callable[[Any], int]]:
        """Return the function from the name of a resource to its value for a job of a rule."""
        sizes: dict[tuple[str, ...], Size] = {}

        def size(wildcards) -> Size:
            key = tuple(wildcards)
            if key not in sizes:
                sizes[key] = self._resources.size(rule, subject(wildcards))
            return sizes[key]

        return lambda resource: lambda wildcards: self._asked(resource, size(wildcards))

    def _asked(self, resource: str, size: Size) -> int:
        return {
            "gpu": size.gpus,
            "cpus_per_task": size.gpus * self.site.cpus_per_gpu,
            "mem_mb": size.gpus * self.site.memory_mb_per_gpu,
            "runtime": size.minutes,
        }[resource]

    def retries(self, rule: str, given: int) -> int:
        """Return the retries of a training: those of the run, or more if its time limits make it stop more often."""
        return max(given, self._resources.retries(rule)) if given else 0

    # --- subjects ---

    def training(self, wildcards) -> Training:
        return self.benchmark.training(wildcards.autoencoder, wildcards.phase)

    def reference(self, wildcards) -> ReferenceCell:
        return configuration.reference_cell(
            self.benchmark, wildcards.purpose, wildcards.dataset, int(wildcards.resolution)
        )

    def captions_cell(self, wildcards) -> CaptionsCell:
        return configuration.captions_cell(self.benchmark, wildcards.dataset, wildcards.split, wildcards.diffusion)

    def cell(self, wildcards) -> ResolvedCell:
        """Return an autoencoder on a dataset at a resolution."""
        names = ReconstructionCell(wildcards.dataset, int(wildcards.resolution), wildcards.autoencoder)
        return self.benchmark.resolve(names)

    def generation_cell(self, wildcards) -> ResolvedGeneration:
        names = (wildcards.dataset, int(wildcards.resolution), wildcards.autoencoder, wildcards.diffusion)
        return self.benchmark.resolve(GenerationCell(*names, int(wildcards.patch_size)))

    def of_benchmark(self, wildcards) -> Benchmark:
        return self.benchmark

    def configuration(self, step: Step, subject: Callable[[Any], Any]) -> Callable[[Any], str]:
        """Return the parameter with the digest of the configuration of a job's subject."""
        return lambda wildcards: step.configuration(subject(wildcards))

    def images(self, of: Callable[[Any], list[tuple[DatasetEntry, Split]]]) -> Callable[[Any], str]:
        """Return the parameter with the state of the image files that a job reads."""
        return lambda wildcards: " ".join(self._images_state(*each) for each in of(wildcards))

    def _images_state(self, entry: DatasetEntry, split: Split) -> str:
        if (entry.name, split) not in self._states:
            known = layout.file(self.benchmark.name, layout.IMAGES_STATE, dataset=entry.name, split=split)
            self._states[entry.name, split] = images_state(entry, split, known)
        return self._states[entry.name, split]

    def training_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        return [(entry, "train") for _, entry in sorted(self.training(wildcards).datasets.items())]

    def reference_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        cell = self.reference(wildcards)
        split = cell.protocols[0].generation_reference if cell.purpose == "generation" else "validation"
        return [(cell.dataset, split)]

    def reconstructed_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        return [(self.cell(wildcards).dataset, "validation")]

    def encoded_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        return [(self.cell(wildcards).dataset, "train")]

    def captioned_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        cell = self.captions_cell(wildcards)
        return [(cell.dataset, cell.split)]

    def images_on_the_fly(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        """Return the images of a training that encodes them; cached latents are an input file."""
        on_the_fly = self.generation_cell(wildcards).recipe.latents == "on-the-fly"
        return self.encoded_images(wildcards) if on_the_fly else []

    def compared_images(self, wildcards) -> list[tuple[DatasetEntry, Split]]:
        """Return the images that samples are compared with."""
        cell = self.generation_cell(wildcards)
        return [(cell.evaluated_on, cell.protocols[0].generation_reference)]

    # --- input files ---

    def _file(self, pattern: str, **names: str | int) -> str:
        return str(layout.file(self.benchmark.name, pattern, **names))

    def _weights(self, training: Training | None) -> list[str]:
        if training is None:
            return []
        folder = self._file(layout.AUTOENCODER, autoencoder=training.autoencoder, phase=training.phase)
        return [f"{folder}/{name}" for name in AUTOENCODER_FILES]

    def start(self, wildcards) -> list[str]:
        """Return the weights that a phase starts from; none for a first phase."""
        return self._weights(self.training(wildcards).start)

    def weights(self, wildcards) -> list[str]:
        """Return the trained weights of an autoencoder; none for controls, released and supplied weights."""
        return self._weights(self.benchmark.final_training(wildcards.autoencoder))

    def latents(self, wildcards) -> list[str]:
        """Return the index of the latents of a training; none if it encodes images on the fly."""
        return self._latents(self.generation_cell(wildcards))

    def _latents(self, cell: ResolvedGeneration) -> list[str]:
        if cell.is_released or cell.recipe.latents == "on-the-fly":
            return []
        return [self._file(f"{layout.LATENTS}/{layout.INDEX}", **vars(cell.names))]

    def captions(self, wildcards) -> list[str]:
        """Return the index of the captions of a training, if the model is conditioned on captions."""
        return self._captions(self.generation_cell(wildcards), wildcards.dataset, "train")

    def evaluation_captions(self, wildcards) -> list[str]:
        """Return the index of the captions that samples are made for."""
        cell = self.generation_cell(wildcards)
        return self._captions(cell, cell.evaluated_on.name, cell.protocols[0].generation_reference)

    def _captions(self, cell: ResolvedGeneration, dataset: str, split: str) -> list[str]:
        if cell.diffusion.conditioning != "caption":
            return []
        names = {"dataset": dataset, "split": split, "diffusion": cell.diffusion.name}
        return [self._file(f"{layout.CAPTIONS}/{layout.INDEX}", **names)]

    def denoiser(self, wildcards) -> list[str]:
        """Return the weights of a trained diffusion model; none if they are released."""
        return self._denoiser(self.generation_cell(wildcards))[:1]

    def _denoiser(self, cell: ResolvedGeneration) -> list[str]:
        names = () if cell.is_released else (layout.DENOISER_WEIGHTS, layout.CONFIG)
        return [self._file(f"{layout.DENOISER}/{name}", **vars(cell.names)) for name in names]

    def generation_reference(self, wildcards) -> str:
        """Return the features of the real images that samples are compared with."""
        return self._generation_reference(self.generation_cell(wildcards))

    def _generation_reference(self, cell: ResolvedGeneration) -> str:
        names = {"purpose": "generation", "dataset": cell.evaluated_on.name, "resolution": cell.resolution}
        return self._file(layout.REFERENCE, **names)

    # --- files of the whole benchmark ---

    def _reconstruction(self, pattern: str) -> list[str]:
        return [self._file(pattern, **vars(cell)) for cell in self.benchmark.cells.reconstruction]

    def _generation(self, pattern: str) -> list[str]:
        return [self._file(pattern, **vars(cell)) for cell in self.benchmark.cells.generation]

    @property
    def records(self) -> list[str]:
        return [
            *self._reconstruction(layout.RECONSTRUCTION_RECORD),
            *self._generation(layout.GENERATION_RECORD),
            *self._generation(layout.EFFICIENCY_RECORD),
        ]

    @property
    def sample_images(self) -> list[str]:
        return [*self._reconstruction(layout.RECONSTRUCTION_SAMPLES), *self._generation(layout.GENERATION_SAMPLES)]

    @property
    def measurements(self) -> list[str]:
        """Return what tables, figures and the page are made from."""
        return [*self.records, *self._reconstruction(layout.PER_IMAGE), *self.sample_images]

    @property
    def table_files(self) -> list[str]:
        return [
            self._file(layout.TABLE, name=name, form=form)
            for name, table in tables_of(self.benchmark).items()
            for form in table.forms
            if form != "html"
        ]

    @property
    def table_pages(self) -> list[str]:
        """Return the tables that Snakemake's report shows."""
        return [self._file(layout.TABLE, name=name, form="html") for name in tables_of(self.benchmark)]

    @property
    def figure_files(self) -> list[str]:
        return [self._file(layout.FIGURE, name=name, form="pdf") for name in FIGURES]

    @property
    def figure_pictures(self) -> list[str]:
        """Return the figures that Snakemake's report shows."""
        return [self._file(layout.FIGURE, name=name, form="png") for name in FIGURES]

    @property
    def page(self) -> str:
        """Return the page of the results."""
        return self._file(layout.PAGE)

    @property
    def parts(self) -> dict[str, list[str]]:
        """Return the names of tables and figures that are targets, with the files that each shows."""
        cells = [*map(self.benchmark.resolve, self.benchmark.cells.generation)]
        found = {name: self._reconstruction(layout.RECONSTRUCTION_RECORD) for name in ("table2", "ablations")}
        for number in (1, 3, 4, 5):
            names = [vars(cell.names) for cell in cells if any(number in plan.tables for plan in cell.plans)]
            patterns = (layout.GENERATION_RECORD, layout.EFFICIENCY_RECORD)
            found[f"table{number}"] = [self._file(pattern, **each) for each in names for pattern in patterns]
        pictures = {
            "reconstruction_samples": self._reconstruction(layout.RECONSTRUCTION_SAMPLES),
            "generation_samples": self._generation(layout.GENERATION_SAMPLES),
        }
        return found | {name: [*self.records, *pictures.get(name, [])] for name in FIGURES}

    def command_of(self, part: str) -> str:
        """Return the sub-command that makes a table or a figure."""
        return "figures" if part in FIGURES else "tables"

    @property
    def steps_on_the_way(self) -> list[str]:
        """Return what records are made from: references, trained weights, latents and captions."""
        cells = [self.benchmark.resolve(cell) for cell in self.benchmark.cells.generation]
        found = [
            *self._reconstruction(layout.REFERENCE.replace("{purpose}", "reconstruction")),
            *(file for training in self.benchmark.trainings for file in self._weights(training)),
        ]
        for cell in cells:
            found += [self._generation_reference(cell), *self._latents(cell), *self._denoiser(cell)]
            found += self._captions(cell, cell.evaluated_on.name, cell.protocols[0].generation_reference)
            found += [] if cell.is_released else self._captions(cell, cell.names.dataset, "train")
        return list(dict.fromkeys(found))

    @property
    def results(self) -> list[str]:
        """Return the files of the target ``all``.

        Snakemake makes a deleted file again only where a target asks for it, or something newer does.
        """
        presented = [*self.table_files, *self.table_pages, *self.figure_files, *self.figure_pictures, self.page]
        return [*presented, *self.measurements, *self.steps_on_the_way]
