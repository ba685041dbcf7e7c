# SPDX-License-Identifier: Apache-2.0
"""Counted costs of networks: parameters, multiply-accumulates, memory; from ``costs.csv`` beside a benchmark's entries.

``dcae plan BENCHMARK --count`` counts what is missing there, by shapes alone (``evaluation/efficiency/counting.py``).
Rows are found by the digest of what decides them, so a changed architecture has none, and equal ones share one.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcae.benchmark import Benchmark, ResolvedGeneration, Training
from dcae.benchmark.config import Config
from dcae.benchmark.entries import AutoencoderFields, digest
from dcae.benchmark.record import write_atomically
from workflow.staleness.configuration import SAMPLING_FIELDS, TILING_FIELDS, TRAINING_FIELDS

FILE = "costs.csv"
NUMBERS = ("gmacs", "fixed_gib", "image_gib")
STAND_IN = "sd-vae-f8"
"""Entry whose cost stands for that of autoencoders whose architecture is known by released weights or code alone."""
NOT_OF_THE_ARCHITECTURE = (*TRAINING_FIELDS, *TILING_FIELDS, "latent_scale", "latent_shift", "posterior", "pretrained")

CODER_RESOLUTION = 256
"""Pixels per side at which coders are counted: their cost is that of convolutions, proportional to the pixels."""

Kind = Literal["train denoiser", "train autoencoder", "encode", "decode"]


@dataclass(frozen=True)
class Work:
    """A network at a shape, and what it does.

    Attributes:
        kind: a training, or one half of an autoencoder.
        subject: for people.
        key: digest of what decides the cost.
        of: what is counted: a cell, a training, or the entry of an autoencoder.
    """

    kind: Kind
    subject: str
    key: str
    of: ResolvedGeneration | Training | AutoencoderFields


@dataclass(frozen=True)
class Cost:
    """Counted cost of a piece of work.

    Attributes:
        parameters: of the network, those of a discriminator and of LPIPS not included.
        gmacs: per image, 1e9 multiply-accumulates: of a forward pass, or of a whole training step of an autoencoder.
        fixed_gib: memory at any batch size: weights, and in training gradients and the optimiser's state.
        image_gib: memory for each image of a batch on one GPU.
    """

    parameters: int
    gmacs: float
    fixed_gib: float
    image_gib: float


def of_denoiser(cell: ResolvedGeneration) -> Work:
    """Return the training of a diffusion model, by whose cost the sampling is known as well."""
    names, entry, checkpointed = cell.names, cell.diffusion, cell.recipe.gradient_checkpointing
    excluded = (*SAMPLING_FIELDS, "recipe", "pretrained", "text_encoder")
    architecture = {name: value for name, value in entry.decisive().items() if name not in excluded}
    text = [entry.text_encoder.tokens] if entry.text_encoder else []
    shape = [cell.autoencoder.entry.latent_channels, cell.latent_size, names.patch_size]
    subject = f"{entry.name} p{names.patch_size}, latents {shape[1]} x {shape[1]} x {shape[0]}"
    subject += ", checkpointed" if checkpointed else ""
    return Work("train denoiser", subject, digest(architecture, *text, shape, [checkpointed]), cell)


def of_training(training: Training) -> Work:
    """Return the training of one phase of an autoencoder."""
    settings = training.settings
    fields = ("resolution", "trains", "extra_blocks", "gradient_checkpointing", "channels_last", "precision")
    decisive = settings.model_dump(mode="json", include=set(fields))
    losses = settings.losses
    extra = [losses.perceptual and losses.perceptual.lpips.network, losses.kl is not None]
    extra += [losses.gan and [losses.gan.layers, losses.gan.width, losses.gan.adaptive_weight]]
    subject = f"{training.autoencoder}, {training.phase}"
    return Work("train autoencoder", subject, digest(_architecture(training.entry), decisive, extra), training)


def of_coder(entry: AutoencoderFields, kind: Literal["encode", "decode"], config: Config) -> Work:
    """Return the encoder or decoder of an autoencoder; of the stand-in where none can be counted."""
    while entry.kind == "space-to-channel":
        entry = config.entry("autoencoders", entry.autoencoder)
    if entry.kind == "python" or (entry.kind == "diffusers" and entry.config is None):
        entry = Config().entry("autoencoders", STAND_IN)
    subject = f"{entry.name} at {CODER_RESOLUTION} px"
    return Work(kind, subject, digest(kind, _architecture(entry), CODER_RESOLUTION), entry)


def _architecture(entry: AutoencoderFields) -> dict[str, object]:
    return {name: value for name, value in entry.decisive().items() if name not in NOT_OF_THE_ARCHITECTURE}


def works(benchmark: Benchmark) -> list[Work]:
    """Return every piece of work of a benchmark that is counted, each once."""
    found = [of_training(each) for each in benchmark.trainings]
    names = dict.fromkeys(cell.autoencoder for cell in [*benchmark.cells.reconstruction, *benchmark.cells.generation])
    for entry in map(benchmark.autoencoder, names):
        found += [of_coder(entry, kind, benchmark.config) for kind in ("encode", "decode")]
    found += [of_denoiser(benchmark.resolve(cell)) for cell in benchmark.cells.generation]
    return list({work.key: work for work in reversed(found)}.values())[::-1]


class Costs:
    """The counted costs in folders of entries, by the digests of their work; new ones go into the first."""

    def __init__(self, config: Config):
        self.files = [folder / FILE for folder in config.folders]
        self._rows = {key: row for file in reversed(self.files) for key, row in _read(file).items()}

    def get(self, work: Work) -> Cost | None:
        """Return the cost of a piece of work; ``None`` if it is not counted."""
        row = self._rows.get(work.key)
        return row and Cost(int(row["parameters"]), *(float(row[name]) for name in NUMBERS))

    def missing(self, benchmark: Benchmark) -> list[Work]:
        """Return the works of a benchmark that are not counted."""
        return [work for work in works(benchmark) if work.key not in self._rows]

    def add(self, work: Work, cost: Cost) -> None:
        """Write a counted cost into the file of the first folder."""
        numbers = {name: f"{getattr(cost, name):.4g}" for name in NUMBERS}
        row = {"kind": work.kind, "subject": work.subject, "key": work.key, "parameters": cost.parameters, **numbers}
        self._rows[work.key] = row
        rows = _read(self.files[0]) | {work.key: row}
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: (row["kind"], row["subject"], row["key"])))
        write_atomically(self.files[0], text.getvalue())


def _read(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["key"]: row for row in csv.DictReader(lines)}
