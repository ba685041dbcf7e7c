# SPDX-License-Identifier: Apache-2.0
"""Digests of the configuration that decides each step's result.

A changed entry makes its own jobs stale and no others. Input files are not part of a digest: trained weights, latents,
captions and references count by their content.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcae.benchmark import Benchmark, ConfigError, ResolvedAutoencoder, ResolvedCell, ResolvedGeneration, Training
from dcae.benchmark.config import REPOSITORY_CONFIG, read_yaml
from dcae.benchmark.entries import DatasetEntry, DiffusionEntry, Entry, NetworkWeights, Protocol, SubsetDetector, digest
from dcae.files import content_hashes

LOCATION_FIELDS = ("path", "layout", "train", "validation", "validation_images", "expected_images")
VALIDATION_FIELDS = ("validation", "validation_images", "expected_images")  # no training depends on them
TRAINING_FIELDS = ("recipe", "start_from")
TILING_FIELDS = ("tiling", "padding")
SAMPLING_FIELDS = ("sampler", "ode_solver", "sampling_steps", "guidance_scale", "guided_channels")
WITHOUT_REAL_FEATURES = {"lpips", "clip", "quantisation", "sampling_precision", "generation_images"}  # of a protocol
FIELDS_OF_THE_OTHER_PURPOSE = {
    "reconstruction": {"generation_reference", "generation_reference_images"},
    "generation": {"reconstruction_images", "subsets"},
}
RUNTIME_FIELDS = ("checkpoint_every", "gradient_checkpointing")
DATA_VERSIONS = {"scenes": "dcae/data/scenes/dataset.py", "photographs": "dcae/data/photographs.py"}
"""Kind of dataset to the file with the ``VERSION`` of its images, for those that this project makes itself."""

REPOSITORY = Path(__file__).resolve().parents[2]
ABOUT_THE_PAPER = ("paper_name", "paper_datasets")  # they choose the published numbers beside an entry's


@dataclass(frozen=True)
class ReferenceCell:
    """Features of a dataset's real images at a resolution, by all protocols of a purpose."""

    dataset: DatasetEntry
    resolution: int
    purpose: Literal["reconstruction", "generation"]
    protocols: list[Protocol]


@dataclass(frozen=True)
class CaptionsCell:
    """Captions of a dataset, as the text encoder of a diffusion model embeds them."""

    dataset: DatasetEntry
    split: Literal["train", "validation"]
    diffusion: DiffusionEntry

    def __post_init__(self):
        """Raise ``ConfigError`` if the diffusion model is not conditioned on captions."""
        if self.diffusion.conditioning != "caption":
            raise ConfigError(
                f"diffusion entry {self.diffusion.name}: conditioning is {self.diffusion.conditioning}, "
                "so it takes no captions"
            )


def reference_cell(
    benchmark: Benchmark, purpose: Literal["reconstruction", "generation"], dataset: str, resolution: int
) -> ReferenceCell:
    """Return the reference of a benchmark's cells of a purpose."""
    return ReferenceCell(benchmark.dataset(dataset), resolution, purpose, benchmark.protocols(purpose))


def captions_cell(
    benchmark: Benchmark, dataset: str, split: Literal["train", "validation"], diffusion: str
) -> CaptionsCell:
    """Return the captions of a dataset for a diffusion model."""
    return CaptionsCell(benchmark.dataset(dataset), split, benchmark.diffusion(diffusion))


@functools.cache
def read_version(module: str, constant: str) -> int:
    """Return an integer constant of a source file, which is not imported, since it may import torch.

    Raises:
        RuntimeError: not exactly one line assigns it.
    """
    text = (REPOSITORY / module).read_text(encoding="utf-8")
    found = re.findall(rf"^{constant} = (\d+)\b", text, re.MULTILINE)
    if len(found) != 1:
        raise RuntimeError(f"{module}: expected one line {constant} = <integer>, found {len(found)}")
    return int(found[0])


def _dataset(entry: DatasetEntry, *excluded: str) -> dict[str, Any]:
    """Return the decisive fields of a dataset, with the version of images that this project makes itself."""
    version = {"version": read_version(DATA_VERSIONS[entry.kind], "VERSION")} if entry.kind in DATA_VERSIONS else {}
    return _without(entry, *excluded) | version


def _split(entry: DatasetEntry, split: Literal["train", "validation"]) -> dict[str, Any]:
    """Return the decisive fields of a dataset for the images of a split."""
    return _dataset(entry, *(VALIDATION_FIELDS if split == "train" else ()))


def _without(entry: Entry, *fields: str) -> dict[str, Any]:
    return {key: value for key, value in entry.decisive().items() if key not in fields}


def _contents(autoencoder: ResolvedAutoencoder) -> list[list[str]]:
    """Hashes of the local files that an entry names: a checkpoint that was replaced is another autoencoder."""
    hashes = content_hashes(autoencoder.files)
    return [sorted(hashes.values())] if hashes else []


def _weight_files(*networks: NetworkWeights | SubsetDetector | None) -> dict[str, str]:
    """Sha256 in ``config/weights.yaml`` of the weights of these feature networks."""
    names = sorted({network.weights for network in networks if network and not network.random})
    return {name: _catalogue()[name]["sha256"] if name in _catalogue() else "unknown" for name in names}


@functools.cache
def _catalogue() -> dict[str, dict[str, str]]:
    return read_yaml(REPOSITORY_CONFIG / "weights.yaml")["files"]


def _protocols(protocols: list[Protocol]) -> list[Any]:
    return [[protocol.decisive(), _weight_files(*protocol.networks, *protocol.detectors)] for protocol in protocols]


def training(training: Training) -> str:
    """Digest of one phase: the architecture, the phase, its datasets and the seed.

    Fields that cannot change the weights are excluded: where the images are (a training knows them by a fingerprint),
    the validation images, how often a checkpoint is written, recomputation in the backward pass, and tiling.
    """
    perceptual = training.settings.losses.perceptual
    return digest(
        _without(training.entry, *TRAINING_FIELDS, *TILING_FIELDS),
        training.settings.model_dump(mode="json", exclude_none=True, exclude=set(RUNTIME_FIELDS)),
        training.recipe.datasets,
        training.recipe.latent_scale_images,
        *(_dataset(training.datasets[name], *LOCATION_FIELDS) for name in sorted(training.datasets)),
        _weight_files(perceptual.lpips if perceptual else None),
        training.seed,
        *_contents(ResolvedAutoencoder(training.entry, (training.entry,), training, "")),
    )


def training_data(training: Training) -> str:
    """Digest of all about a training's datasets but their validation; a change makes a job look if it has to train."""
    datasets = (training.datasets[name] for name in sorted(training.datasets))
    return digest(*(_split(each, "train") for each in datasets))


def autoencoder(autoencoder: ResolvedAutoencoder) -> str:
    """Digest of how an autoencoder is built and scaled, and of the local files that its entry names.

    Its training is an input file, so the recipe is left out.
    """
    entries = [_without(entry, *TRAINING_FIELDS) for entry in autoencoder.below]
    return digest(*entries, *_contents(autoencoder))


def reference(cell: ReferenceCell) -> str:
    """Digest of the features of real images: of a protocol, the fields that decide those of the purpose."""
    excluded = WITHOUT_REAL_FEATURES | FIELDS_OF_THE_OTHER_PURPOSE[cell.purpose]
    protocols = []
    for each in cell.protocols:
        detectors = each.detectors if cell.purpose == "reconstruction" else []
        weights = _weight_files(each.inception, each.dinov2, each.cmmd, *detectors)
        protocols.append([_without(each, *excluded), weights])
    split = cell.protocols[0].generation_reference if cell.purpose == "generation" else "validation"
    return digest(_split(cell.dataset, split), cell.resolution, protocols)


def reconstruction(cell: ResolvedCell) -> str:
    """Digest of a reconstruction record; trained weights and the reference are input files."""
    return digest(
        autoencoder(cell.autoencoder), _dataset(cell.dataset), cell.resolution, _protocols(cell.protocols), cell.seed
    )


def latents(cell: ResolvedCell) -> str:
    """Digest of a dataset's latents; trained weights are an input file."""
    images = _split(cell.dataset, "train")
    return digest(autoencoder(cell.autoencoder), images, cell.resolution, cell.seed)


def captions(cell: CaptionsCell) -> str:
    """Digest of a dataset's captions as a diffusion model's text encoder embeds them."""
    return digest(_split(cell.dataset, cell.split), cell.diffusion.text_encoder.model_dump(mode="json"))


def denoiser(cell: ResolvedGeneration) -> str:
    """Digest of the training of a diffusion model on latents, which the training also knows by their content.

    Where the images are does not count: latents that are encoded again come out the same.
    """
    return digest(
        _without(cell.diffusion, "recipe", *SAMPLING_FIELDS),
        _without(cell.recipe, *RUNTIME_FIELDS),
        autoencoder(cell.autoencoder),
        _dataset(cell.dataset, *LOCATION_FIELDS),
        cell.resolution,
        cell.patch_size,
        cell.seed,
    )


def generation(cell: ResolvedGeneration) -> str:
    """Digest of a generation record; weights, captions and the reference are input files."""
    schedule = cell.recipe.noise_schedule
    return digest(
        cell.diffusion,
        schedule.model_dump(mode="json") if schedule else "none",
        latents(cell),
        cell.patch_size,
        _split(cell.evaluated_on, cell.protocols[0].generation_reference),
        _protocols(cell.protocols),
        cell.seed,
    )


def efficiency(cell: ResolvedGeneration) -> str:
    """Digest of an efficiency record, which depends on shapes only; of the data, on the number of classes."""
    shape = [cell.autoencoder.entry.latent_channels, cell.latent_size, cell.latent_size]
    architecture = _without(cell.diffusion, "recipe", *SAMPLING_FIELDS)
    classes_of = [_split(cell.dataset, "train")] if cell.diffusion.conditioning == "class" else []
    return digest(architecture, shape, cell.patch_size, cell.efficiency, *classes_of)


def presentation(benchmark: Benchmark) -> str:
    """Digest of what tables and figures show besides records: headings, names, choices, published numbers, claims."""
    files = [*sorted((REPOSITORY_CONFIG / "published").glob("*.csv")), REPOSITORY_CONFIG / "claims.yaml"]
    published = [path.read_text(encoding="utf-8") for path in files]
    used = [
        [kind, entry.name, *(getattr(entry, name, None) for name in ABOUT_THE_PAPER), entry.chosen()]
        for kind, entry in benchmark.entries_used()
    ]
    return digest(benchmark.content.model_dump(mode="json"), used, published)
