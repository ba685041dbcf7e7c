# SPDX-License-Identifier: Apache-2.0
"""What the rules ask: each job's input files, and the digests of configuration and code that decide its result."""

from __future__ import annotations

import functools
import os
import re

from dcae.benchmark import Benchmark, GenerationCell, ReconstructionCell, Training, digests
from dcae.benchmark.config import REPOSITORY_CONFIG
from dcae.benchmark.entries import digest
from dcae.benchmark.used import entries_used
from evaluation.figures.registry import FIGURES
from evaluation.tables.registry import tables_of
from workflow.steps import code_of, code_of_denoiser, code_of_generation

ABOUT_THE_PAPER = ("paper_name", "paper_datasets")  # of an entry: which published numbers stand beside it


def _folder_option(option: str, files: list[str]) -> str:
    """The option that names the folder of a file; nothing without one."""
    return "".join(f"{option} {os.path.dirname(file)}" for file in files)


class Jobs:
    """The functions that rules name as their inputs and parameters; each takes Snakemake's wildcards."""

    def __init__(self, path: str):
        self.benchmark = Benchmark.load(path)
        self.path = path

    # --- names ---

    def pattern(self, wildcard: str) -> str:
        """Regular expression of the names that a wildcard may take."""
        cells = [*self.benchmark.cells.reconstruction, *self.benchmark.cells.generation]
        names = {
            "autoencoder": set(self.benchmark.all_autoencoders),
            "phase": {training.phase for training in self._trainings()},
            "dataset": {cell.dataset for cell in cells}
            | {self.benchmark.evaluation_dataset(cell) for cell in self.benchmark.cells.generation},
            "diffusion": {cell.diffusion for cell in self.benchmark.cells.generation},
        }[wildcard]
        return "|".join(re.escape(name) for name in sorted(names)) or "none"

    def file(self, wildcards) -> str:
        return self.path

    def _results(self, *parts: str) -> str:
        return "/".join(["results", self.benchmark.name, *parts])

    def _trainings(self) -> list[Training]:
        finals = [self.benchmark.final_training(name) for name in self.benchmark.all_autoencoders]
        found: dict[Training, None] = {}
        for training in finals:
            while training:
                found.setdefault(training)
                training = training.start
        return list(found)

    def launcher(self, wildcards, resources) -> str:
        """How training or encoding starts: as one process, one for each GPU of a node, or as tasks on many nodes."""
        if resources.get("mpi"):
            # srun by itself starts one task per node with one core each, whatever the job was given.
            tasks = f"--ntasks-per-node={resources.tasks_per_node} --cpus-per-task={resources.cpus_per_task}"
            return f"{resources.mpi} --nodes={resources.nodes} {tasks} --kill-on-bad-exit=1 dcae"
        gpus = resources.get("gpu", 1)
        return f"torchrun --standalone --nproc-per-node {gpus} --no-python -- dcae" if gpus > 1 else "dcae"

    # --- files ---

    def _weights_folder(self, training: Training) -> str:
        return self._results("autoencoders", training.autoencoder, training.phase)

    def _weights_files(self, training: Training | None) -> list[str]:
        if training is None:
            return []
        folder = self._weights_folder(training)
        return [f"{folder}/config.json", f"{folder}/diffusion_pytorch_model.safetensors"]

    def start_weights(self, wildcards) -> list[str]:
        """Files of the training that a phase starts from; none for a first phase."""
        return self._weights_files(self.benchmark.training(wildcards.autoencoder, wildcards.phase).start)

    def start_option(self, wildcards) -> str:
        start = self.benchmark.training(wildcards.autoencoder, wildcards.phase).start
        return f"--start {self._weights_folder(start)}" if start else ""

    def final_weights(self, wildcards) -> list[str]:
        """Files of the training that an autoencoder is measured with; none for controls and released weights."""
        return self._weights_files(self.benchmark.final_training(wildcards.autoencoder))

    def weights_option(self, wildcards) -> str:
        training = self.benchmark.final_training(wildcards.autoencoder)
        return f"--weights {self._weights_folder(training)}" if training else ""

    def latents(self, wildcards) -> list[str]:
        """The index of the latents that a diffusion model is trained on; none if it encodes images on the fly."""
        if self.benchmark.recipe(self.benchmark.diffusion(wildcards.diffusion).recipe).latents == "on-the-fly":
            return []
        folder = f"{wildcards.dataset}-{wildcards.resolution}"
        return [self._results("latents", folder, wildcards.autoencoder, "index.json")]

    def latents_option(self, wildcards) -> str:
        return _folder_option("--latents", self.latents(wildcards))

    def captions(self, wildcards) -> list[str]:
        """The index of the captions that a diffusion model is trained on, if it is conditioned on captions."""
        return self._captions(wildcards.diffusion, wildcards.dataset, "train")

    def captions_option(self, wildcards) -> str:
        return _folder_option("--captions", self.captions(wildcards))

    def evaluation_captions(self, wildcards) -> list[str]:
        """As ``captions``, of those that samples are made for."""
        split = self.benchmark.protocol("generation").generation_reference
        return self._captions(wildcards.diffusion, self._evaluation_dataset(wildcards), split)

    def evaluation_captions_option(self, wildcards) -> str:
        return _folder_option("--captions", self.evaluation_captions(wildcards))

    def _captions(self, diffusion: str, dataset: str, split: str) -> list[str]:
        if self.benchmark.diffusion(diffusion).conditioning != "caption":
            return []
        return [self._results("captions", f"{dataset}-{split}", diffusion, "index.json")]

    def denoiser(self, wildcards) -> list[str]:
        """Weights of a trained diffusion model; none if they are released."""
        if self.benchmark.is_released(wildcards.diffusion):
            return []
        folder = f"{wildcards.dataset}-{wildcards.resolution}"
        name = f"{wildcards.diffusion}-p{wildcards.patch_size}"
        return [self._results("diffusion", folder, wildcards.autoencoder, name, "model.safetensors")]

    def denoiser_option(self, wildcards) -> str:
        return _folder_option("--denoiser", self.denoiser(wildcards))

    def generation_reference(self, wildcards) -> str:
        """Features of the real images that samples are compared with."""
        name = f"{self._evaluation_dataset(wildcards)}-{wildcards.resolution}.safetensors"
        return self._results("reference", "generation", name)

    def _evaluation_dataset(self, wildcards) -> str:
        return self.benchmark.evaluation_dataset(self._generation_cell(wildcards))

    def _reconstruction_files(self, folder: str, ending: str) -> list[str]:
        return [
            self._results(folder, "reconstruction", f"{cell.dataset}-{cell.resolution}", cell.autoencoder + ending)
            for cell in self.benchmark.cells.reconstruction
        ]

    def _generation_files(self, folder: str, kind: str, ending: str) -> list[str]:
        return [
            self._results(
                folder, kind, f"{cell.dataset}-{cell.resolution}", cell.autoencoder,
                f"{cell.diffusion}-p{cell.patch_size}{ending}",
            )
            for cell in self.benchmark.cells.generation
        ]  # fmt: skip

    @property
    def records(self) -> list[str]:
        return [
            *self._reconstruction_files("records", ".json"),
            *self._generation_files("records", "generation", ".json"),
            *self._generation_files("records", "efficiency", ".json"),
        ]

    @property
    def sample_images(self) -> list[str]:
        return [
            *self._reconstruction_files("samples", ".png"),
            *self._generation_files("samples", "generation", ".png"),
        ]

    @property
    def table_files(self) -> list[str]:
        return [
            self._results("tables", f"{name}.{form}")
            for name, table in tables_of(self.benchmark).items()
            for form in table.forms
            if form != "html"
        ]

    @property
    def table_pages(self) -> list[str]:
        """The pages of tables that the report shows."""
        return [self._results("tables", f"{name}.html") for name in tables_of(self.benchmark)]

    @property
    def figure_files(self) -> list[str]:
        return [self._results("figures", f"{name}.pdf") for name in FIGURES]

    @property
    def figure_pictures(self) -> list[str]:
        """What the report shows of the figures."""
        return [self._results("figures", f"{name}.png") for name in FIGURES]

    @property
    def results(self) -> list[str]:
        """What the target ``all`` asks for."""
        return [*self.table_files, *self.table_pages, *self.figure_files, *self.figure_pictures]

    # --- digests ---

    def _reconstruction_cell(self, wildcards) -> ReconstructionCell:
        return ReconstructionCell(wildcards.dataset, int(wildcards.resolution), wildcards.autoencoder)

    def _generation_cell(self, wildcards) -> GenerationCell:
        return GenerationCell(
            wildcards.dataset,
            int(wildcards.resolution),
            wildcards.autoencoder,
            wildcards.diffusion,
            int(wildcards.patch_size),
        )

    def training_config(self, wildcards) -> str:
        training = self.benchmark.training(wildcards.autoencoder, wildcards.phase)
        parts = (digests.training_digest, digests.training_data_digest)
        return digest(*(part(self.benchmark, training) for part in parts))

    def training_code(self, wildcards) -> str:
        datasets = self.benchmark.recipe(self.benchmark.autoencoder(wildcards.autoencoder).recipe).datasets
        return code_of("train_autoencoder", self.benchmark, datasets, wildcards.autoencoder)

    def reference_config(self, wildcards) -> str:
        return digests.reference_digest(self.benchmark, wildcards.dataset, int(wildcards.resolution), wildcards.purpose)

    def reference_code(self, wildcards) -> str:
        return code_of("reference", self.benchmark, [wildcards.dataset])

    def reconstruction_config(self, wildcards) -> str:
        return digests.reconstruction_digest(self.benchmark, self._reconstruction_cell(wildcards))

    def reconstruction_code(self, wildcards) -> str:
        return code_of("evaluate", self.benchmark, [wildcards.dataset], wildcards.autoencoder)

    def latents_config(self, wildcards) -> str:
        return digests.latents_digest(
            self.benchmark, wildcards.dataset, int(wildcards.resolution), wildcards.autoencoder
        )

    def latents_code(self, wildcards) -> str:
        return code_of("encode", self.benchmark, [wildcards.dataset], wildcards.autoencoder)

    def captions_config(self, wildcards) -> str:
        return digests.captions_digest(self.benchmark, wildcards.dataset, wildcards.diffusion)

    def captions_code(self, wildcards) -> str:
        return code_of("captions", self.benchmark, [wildcards.dataset])

    def denoiser_config(self, wildcards) -> str:
        return digests.denoiser_digest(self.benchmark, self._generation_cell(wildcards))

    def denoiser_code(self, wildcards) -> str:
        return code_of_denoiser(self.benchmark, self._generation_cell(wildcards))

    def generation_config(self, wildcards) -> str:
        return digests.generation_digest(self.benchmark, self._generation_cell(wildcards))

    def generation_code(self, wildcards) -> str:
        return code_of_generation(self.benchmark, self._generation_cell(wildcards))

    def efficiency_config(self, wildcards) -> str:
        return digests.efficiency_digest(self.benchmark, self._generation_cell(wildcards))

    def efficiency_code(self, wildcards) -> str:
        return code_of("profile", self.benchmark, diffusion=wildcards.diffusion)

    @functools.cached_property
    def _presentation(self) -> str:
        published = sorted((REPOSITORY_CONFIG / "published").glob("*.csv"))
        used = entries_used(self.benchmark)
        return digest(
            self.benchmark.content.model_dump(mode="json"),
            [
                [kind, entry.name, *(getattr(entry, field, None) for field in ABOUT_THE_PAPER), entry.chosen()]
                for kind, entry in used
            ],
            [path.read_text() for path in published],
        )

    def tables_config(self, wildcards) -> str:
        """Digest of what tables and figures show besides the records: headings, names, choices, published numbers."""
        return self._presentation

    def tables_code(self, wildcards) -> str:
        return code_of("tables", self.benchmark)

    def figures_code(self, wildcards) -> str:
        return code_of("figures", self.benchmark)
