# SPDX-License-Identifier: Apache-2.0
"""The plan of a benchmark: every job with its size, and what all of them need together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcae.benchmark import Benchmark, ResolvedGeneration
from dcae.benchmark.config import split_seed
from dcae.benchmark.entries import Pretrained, Protocol
from dcae.weights.catalogue import WeightsError, weight_file, weights_dir
from dcae.weights.pinning import HUB_ID
from workflow import layout
from workflow.planning import costs
from workflow.planning.needs import Needs, NotCounted, images, reference_images
from workflow.planning.site import Site
from workflow.planning.sizing import Need, Size, size
from workflow.staleness import configuration
from workflow.trained import finished_in

STEPS = (
    "train_autoencoder", "encode_latents", "encode_captions", "train_denoiser", "reference_features",
    "evaluate_reconstruction", "evaluate_generation", "profile_efficiency",
)  # fmt: skip
"""Rules whose jobs need a GPU, in the order of the work; ``Needs`` has a method for each."""

STUDIES = "studies"  # in the place of a table: reconstruction of variants alone
CHECKPOINTS = 2  # kept of each training
ADAM = 3  # times the weights: weights and both moments
FEATURES = 2048  # of an image, in float32, those of Inception


@dataclass(frozen=True)
class Job:
    """One job of a rule.

    Attributes:
        need: what it needs anywhere; ``None`` if a network of it is not counted.
        size: what it asks for here.
        table: the first table of the benchmark that needs it.
        disk: bytes that it leaves behind, by kind.
        output: file by which it is known to be done.
        taken_over: a training that another benchmark has finished, of the same configuration.
    """

    rule: str
    name: str
    need: Need | None
    size: Size | None
    table: str
    disk: dict[str, float]
    output: Path
    uncounted: str = ""
    taken_over: bool = False

    @property
    def gpu_hours(self) -> float:
        return self.need.gpu_hours if self.need else 0.0

    @property
    def done(self) -> bool:
        return self.output.is_file()


@dataclass(frozen=True)
class Requirement:
    """Data or weights that a benchmark needs: a name, where they are looked for, and whether they are there.

    ``is_downloaded``: released weights that a run gets from the hub by itself.
    """

    kind: str
    name: str
    place: str
    there: bool
    remark: str = ""
    is_downloaded: bool = False


@dataclass
class Plan:
    """Jobs of a benchmark at a site, and what they read."""

    benchmark: Benchmark
    site: Site
    jobs: list[Job] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [f"{job.rule} {job.name}: {job.size.problem}" for job in self.jobs if job.size and job.size.problem]

    @property
    def uncounted(self) -> list[str]:
        return list(dict.fromkeys(job.uncounted for job in self.jobs if job.uncounted))

    def totals(self, jobs: Iterable[Job]) -> dict[str, Any]:
        """Return number, GPU hours and the largest GPU memory of jobs.

        Those that are done or taken over count for the number alone.
        """
        jobs = list(jobs)
        left = [job for job in jobs if not (job.done or job.taken_over)]
        memory = max((job.size.gpu_memory_gib for job in left if job.size), default=0.0)
        return {
            "jobs": len(jobs),
            "done": sum(job.done for job in jobs),
            "taken_over": sum(job.taken_over and not job.done for job in jobs),
            "gpu_hours": round(sum(job.gpu_hours for job in left), 1),
            "most_gpus": max((job.size.gpus for job in left if job.size), default=0),
            "peak_gpu_memory_gib": round(memory, 1),
        }

    def disk(self) -> dict[str, float]:
        """Return bytes by kind, of jobs that are done as well."""
        found: dict[str, float] = {}
        for job in self.jobs:
            for kind, count in job.disk.items():
                found[kind] = found.get(kind, 0.0) + count
        return found

    def content(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        tables = dict.fromkeys(job.table for job in self.jobs)
        return {
            "benchmark": self.benchmark.name,
            "site": self.site.model_dump(mode="json") | {"gpu_memory_gib": self.site.gpu_memory_gib},
            "steps": {rule: self.totals(job for job in self.jobs if job.rule == rule) for rule in STEPS},
            "tables": {each: self.totals(job for job in self.jobs if job.table == each) for each in tables},
            "total": self.totals(self.jobs),
            "disk_gb": {kind: round(count / 1e9, 1) for kind, count in self.disk().items()},
            "needs": [vars(each) for each in self.requirements],
            "problems": self.problems,
            "not_counted": self.uncounted,
            "jobs": [
                {"rule": job.rule, "name": job.name, "table": job.table, "done": job.done, "gpu_hours": job.gpu_hours}
                | (vars(job.size) if job.size else {})
                for job in self.jobs
            ],
        }


def plan(benchmark: Benchmark, site: Site) -> Plan:
    """Return the plan of a benchmark at a site."""
    found = Plan(benchmark, site)
    found.jobs = list(_Jobs(benchmark, site).all())
    found.requirements = requirements(benchmark)
    return found


def requirements(benchmark: Benchmark) -> list[Requirement]:
    """Return the data and weights that a benchmark needs, whether they are there or not."""
    return [*_data(benchmark), *_weights(benchmark)]


class _Jobs:
    """Every job of a benchmark, each once. Tables come in their order: a shared job belongs to the first."""

    def __init__(self, benchmark: Benchmark, site: Site):
        self.benchmark, self.site, self.needs = benchmark, site, Needs(benchmark, site)
        self._known: dict[tuple[str, str], Job] = {}

    def all(self) -> Iterable[Job]:
        tables: dict[str, list[ResolvedGeneration]] = {}
        for cell in map(self.benchmark.resolve, self.benchmark.cells.generation):
            tables.setdefault(f"table {min(table for plan in cell.plans for table in plan.tables)}", []).append(cell)
        shown = self.benchmark.content.with_rows
        by_place = {"table 2": [], STUDIES: []}
        for cell in self.benchmark.cells.reconstruction:
            by_place["table 2" if split_seed(cell.autoencoder)[0] in shown else STUDIES].append(cell)
        for table in sorted({*tables, *by_place}, key=lambda name: (name == STUDIES, name)):
            for cell in tables.get(table, []):
                self._generation(cell, table)
            for names in by_place.get(table, []):
                self._reconstruction(self.benchmark.resolve(names), table)
        return self._known.values()

    def _add(
        self, rule: str, name: str, subject: Any, table: str, disk: dict[str, float], pattern: str,
        taken_over: bool = False, **names,
    ) -> None:  # fmt: skip
        if (rule, name) in self._known:
            return
        need, found, uncounted = None, None, ""
        try:
            need = self.needs.of(rule, subject)
            found = size(need, self.site)
        except NotCounted as error:
            uncounted = str(error)
        output = layout.file(self.benchmark.name, pattern, **names)
        self._known[rule, name] = Job(rule, name, need, found, table, disk, output, uncounted, taken_over)

    def _trainings(self, autoencoder: str, table: str) -> None:
        final = self.benchmark.final_training(autoencoder)
        for training in final.chain if final else []:
            names = {"autoencoder": training.autoencoder, "phase": training.phase}
            weights = 4 * self._parameters(costs.of_training(training))
            disk = {"trained weights": weights, "checkpoints, until a training ends": CHECKPOINTS * ADAM * weights}
            pattern = f"{layout.AUTOENCODER}/{layout.AUTOENCODER_WEIGHTS}"
            name = f"{training.autoencoder}, {training.phase}"
            known = self._finished_elsewhere(layout.AUTOENCODER_STATE, configuration.training, training, names)
            self._add("train_autoencoder", name, training, table, disk, pattern, known, **names)

    def _finished_elsewhere(
        self, pattern: str, digest: Callable[[Any], str], training: Any, names: dict[str, Any]
    ) -> bool:
        own = layout.file(self.benchmark.name, pattern, **names)
        states = layout.elsewhere(own, self.benchmark.name, pattern, **names)
        return bool(states) and finished_in(states, digest(training))

    def _reference(self, purpose: str, dataset: str, resolution: int, table: str) -> None:
        cell = configuration.reference_cell(self.benchmark, purpose, dataset, resolution)
        names = {"purpose": purpose, "dataset": dataset, "resolution": resolution}
        name = f"{dataset} at {resolution} px, {purpose}"
        disk = {"features": feature_bytes(reference_images(cell.protocols[0], cell.dataset, purpose), cell.protocols)}
        self._add("reference_features", name, cell, table, disk, layout.REFERENCE, **names)

    def _reconstruction(self, cell, table: str) -> None:
        self._trainings(cell.names.autoencoder, table)
        self._reference("reconstruction", cell.names.dataset, cell.resolution, table)
        name = f"{cell.names.autoencoder} on {cell.names.dataset} at {cell.resolution} px"
        count = reference_images(cell.protocols[0], cell.dataset, "reconstruction")
        disk, pattern = {"features": feature_bytes(count, cell.protocols)}, layout.RECONSTRUCTION_RECORD
        self._add("evaluate_reconstruction", name, cell, table, disk, pattern, **vars(cell.names))

    def _generation(self, cell: ResolvedGeneration, table: str) -> None:
        names = cell.names
        self._trainings(names.autoencoder, table)
        place = f"{names.autoencoder} on {names.dataset} at {names.resolution} px"
        model = f"{names.diffusion} p{names.patch_size} on {place}"
        if not cell.is_released:
            if cell.recipe.latents == "cached":
                disk = {"latents": latent_bytes(cell)}
                pattern = f"{layout.LATENTS}/{layout.INDEX}"
                self._add("encode_latents", place, cell, table, disk, pattern, **vars(names))
            self._captions(cell, names.dataset, "train", table)
            weights = 4 * self._parameters(costs.of_denoiser(cell))
            copies = ADAM + (1 if cell.recipe.ema else 0)
            disk = {"trained weights": weights, "checkpoints, until a training ends": CHECKPOINTS * copies * weights}
            pattern = f"{layout.DENOISER}/{layout.DENOISER_WEIGHTS}"
            known = self._finished_elsewhere(layout.DENOISER_STATE, configuration.denoiser, cell, vars(names))
            self._add("train_denoiser", model, cell, table, disk, pattern, known, **vars(names))
        split = cell.protocols[0].generation_reference
        self._captions(cell, cell.evaluated_on.name, split, table)
        self._reference("generation", cell.evaluated_on.name, names.resolution, table)
        samples = {"features of samples": 2 * feature_bytes(cell.protocols[0].generation_images, cell.protocols)}
        self._add("evaluate_generation", model, cell, table, samples, layout.GENERATION_RECORD, **vars(names))
        self._add("profile_efficiency", model, cell, table, {}, layout.EFFICIENCY_RECORD, **vars(names))

    def _captions(self, cell: ResolvedGeneration, dataset: str, split: str, table: str) -> None:
        if cell.diffusion.conditioning != "caption":
            return
        subject = configuration.captions_cell(self.benchmark, dataset, split, cell.diffusion.name)
        encoder = cell.diffusion.text_encoder
        disk = {"captions": images(subject.dataset, split) * encoder.tokens * cell.diffusion.caption_channels * 2}
        names = {"dataset": dataset, "split": split, "diffusion": cell.diffusion.name}
        name = f"{dataset}, {split}, by {cell.diffusion.name}"
        self._add("encode_captions", name, subject, table, disk, f"{layout.CAPTIONS}/{layout.INDEX}", **names)

    def _parameters(self, work: costs.Work) -> int:
        found = self.needs.costs.get(work)
        return found.parameters if found else 0


def subjects(benchmark: Benchmark, rule: str) -> list[Any]:
    """Return the trainings or generation cells of a rule whose jobs may need several attempts."""
    if rule == "train_autoencoder":
        return benchmark.trainings
    cells = [benchmark.resolve(cell) for cell in benchmark.cells.generation]
    return [cell for cell in cells if rule != "train_denoiser" or not cell.is_released]


def feature_bytes(images: int, protocols: Sequence[Protocol]) -> float:
    """Return the bytes of the features of images, by several protocols."""
    return images * FEATURES * 4 * len(protocols)


def latent_bytes(cell: ResolvedGeneration) -> int:
    """Return the bytes of a dataset's latents, float32; moments are two numbers for each."""
    base, entry = cell.autoencoder.base, cell.autoencoder.entry
    numbers = 2 if getattr(base, "posterior", "mode") == "moments" else 1
    return images(cell.dataset, "train") * entry.latent_channels * cell.latent_size**2 * 4 * numbers


def _data(benchmark: Benchmark) -> Iterable[Requirement]:
    from dcae.data.storage.archives import is_there

    for kind, entry in benchmark.entries_used():
        if kind == "datasets" and hasattr(entry, "path"):
            yield Requirement("data", entry.name, entry.path, is_there(entry.path))


def _weights(benchmark: Benchmark) -> Iterable[Requirement]:
    """Return the files of feature networks, and released autoencoders, denoisers and text encoders."""
    networks: dict[str, None] = {}
    for kind, entry in benchmark.entries_used():
        if kind == "protocols" and entry.kind == "quality":
            networks |= dict.fromkeys(each.weights for each in entry.networks if not each.random)
        if kind == "recipes" and entry.kind == "autoencoder":
            lpips = [phase.losses.perceptual.lpips for phase in entry.phases if phase.losses.perceptual]
            networks |= dict.fromkeys(each.weights for each in lpips if not each.random)
    for name in networks:
        try:
            path = weight_file(name)
        except WeightsError as error:
            yield Requirement("weights", name, str(error), False)
        else:
            yield Requirement("weights", name, str(path), path.is_file())
    for kind, entry in benchmark.entries_used():
        gated = "gated" if getattr(entry, "gated", False) else ""
        if kind in ("autoencoders", "diffusion") and getattr(entry, "pretrained", None):
            yield _released(entry.name, entry.pretrained, gated)
        encoder = getattr(entry, "text_encoder", None)
        if kind == "diffusion" and encoder and encoder.pretrained:
            yield _released(f"text encoder of {entry.name}", encoder.pretrained, "")


def _released(name: str, pretrained: Pretrained, remark: str) -> Requirement:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    kept = weights_dir() / pretrained.id
    there = Path(pretrained.id).exists() or kept.is_dir() or _in_the_cache_of_the_hub(pretrained)
    is_downloaded = not there and is_hub_id(pretrained.id) and not HF_HUB_OFFLINE
    return Requirement("released", name, f"{pretrained.id} (hub, or {kept})", there, remark, is_downloaded)


def is_hub_id(text: str) -> bool:
    """Return whether a text names a repository of the hub, and not a place in a folder that is here."""
    return bool(HUB_ID.fullmatch(text)) and not Path(text).parent.is_dir()


def _in_the_cache_of_the_hub(pretrained: Pretrained) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{pretrained.id.replace('/', '--')}" / "snapshots"
    snapshots = [folder / pretrained.revision] if pretrained.revision else list(folder.glob("*"))
    return any(any((each / (pretrained.subfolder or "")).glob("*.safetensors")) for each in snapshots if each.is_dir())
