# SPDX-License-Identifier: Apache-2.0
"""What each step needs for its subject: a training, a cell, a reference, or captions.

Times come from speeds: of a record of ``dcae profile`` on such a GPU, else the paper's on an H100, else counted
multiply-accumulates at a usual share of the GPU's peak.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any, Literal

from dcae.benchmark import Benchmark, Record, ResolvedCell, ResolvedGeneration, Training
from dcae.benchmark.entries import AutoencoderFields, DatasetEntry, DiffusionEntry, Protocol
from evaluation.published import read_published
from workflow import layout
from workflow.planning import costs
from workflow.planning.costs import Costs, Work
from workflow.planning.site import GPUS, Site
from workflow.planning.sizing import Need
from workflow.staleness.configuration import CaptionsCell, ReferenceCell

# Shares of peak rates that PyTorch reaches: DiT-XL and UViT-H train at 0.23 of an H100's in the paper's Table 3; of
# convolutions nothing is published.
TRANSFORMERS, CONVOLUTIONS = 0.22, 0.12
FORWARDS_OF_A_STEP = {True: 4, False: 3}  # with and without recomputation
SECONDS_TO_READ = 0.02  # JPEG of 512 px on one core
READERS = 8
FEATURES_GMACS, FEATURES_GIB = 12.0, 4.0  # Inception and LPIPS at 299 to 512 px; their batches, and CLIP's
T5_PARAMETERS = 4.8e9
TEXT_BATCH, SAMPLES_BATCH, ENCODE_BATCH, EVALUATE_BATCH = 32, 64, 32, 16  # as in the commands
PIXELS_AT_ONCE = 2**22  # as dcae.autoencoders.tiling
PROFILE_HOURS = 0.1
UNKNOWN_IMAGES = 1_300_000  # of a dataset whose entry does not say


class NotCounted(ValueError):
    """A work has no row in costs.csv."""


class Needs:
    """Needs of a benchmark's jobs on GPUs like a site's; each rule that needs a GPU has the method of its name."""

    def __init__(self, benchmark: Benchmark, site: Site):
        self.benchmark, self.site, self.costs = benchmark, site, Costs(benchmark.config)

    def of(self, rule: str, subject: Any) -> Need:
        """Return what the job of a rule needs for its subject. Raises ``NotCounted``."""
        return getattr(self, rule)(subject)

    def _cost(self, work: Work) -> costs.Cost:
        found = self.costs.get(work)
        if found is None:
            raise NotCounted(f"{work.kind} {work.subject}")
        return found

    def _coder(self, entry: AutoencoderFields, resolution: int, kind: Literal["encode", "decode"]) -> costs.Cost:
        cost = self._cost(costs.of_coder(entry, kind, self.benchmark.config))
        pixels = (resolution / costs.CODER_RESOLUTION) ** 2
        return replace(cost, gmacs=pixels * cost.gmacs, image_gib=pixels * cost.image_gib)

    def _hours(self, gmacs: float, share: float, rate: float) -> float:
        return 2e9 * gmacs / (share * rate * 1e12) / 3600

    # --- trainings ---

    def train_autoencoder(self, training: Training) -> Need:
        phase, cost = training.settings, self._cost(costs.of_training(training))
        rate = self.site.speeds.tf32 if phase.precision == "fp32" else self.site.speeds.half
        copies = 4 * cost.parameters / 2**30
        return Need(
            phase.steps * phase.batch_size * self._hours(cost.gmacs, CONVOLUTIONS, rate),
            cost.fixed_gib + (copies if phase.ema else 0),
            cost.image_gib / phase.gradient_accumulation,
            copies,
            phase.batch_size,
            splits=True,
        )

    def train_denoiser(self, cell: ResolvedGeneration) -> Need:
        recipe, cost = cell.recipe, self._cost(costs.of_denoiser(cell))
        copies = 4 * cost.parameters / 2**30
        return Need(
            recipe.steps * recipe.batch_size / self.training_speed(cell) / 3600,
            cost.fixed_gib + (copies if recipe.ema else 0),
            cost.image_gib,
            copies,
            recipe.batch_size,
            splits=True,
            accumulates=True,
        )

    def training_speed(self, cell: ResolvedGeneration) -> float:
        """Return the images per second of a training on one GPU."""
        record = layout.file(self.benchmark.name, layout.EFFICIENCY_RECORD, **vars(cell.names))
        if record.is_file():
            measured = Record.read(record)
            value = measured.values.get("training_images_per_second")
            if value and self.site.gpu in str(measured.device.get("name", "")).lower():
                return value.value
        tokens = (cell.latent_size // cell.patch_size) ** 2
        published = published_training_speeds().get(((cell.diffusion.paper_name or "").split(",")[0], tokens))
        if published:
            return published * self.site.speeds.half / GPUS["h100"].half
        gmacs = self._cost(costs.of_denoiser(cell)).gmacs
        forwards = FORWARDS_OF_A_STEP[cell.recipe.gradient_checkpointing]
        rate = self.site.speeds.tf32 if cell.recipe.precision == "fp32" else self.site.speeds.half
        return 1 / (3600 * self._hours(forwards * gmacs, TRANSFORMERS, rate))

    # --- caches ---

    def encode_latents(self, cell: ResolvedCell) -> Need:
        entry, side = cell.autoencoder.entry, cell.resolution
        cost, count = self._coder(entry, side, "encode"), images(cell.dataset, "train")
        hours = count * max(self._hours(cost.gmacs, CONVOLUTIONS, self.site.speeds.tf32), hours_to_read(side))
        return Need(hours, cost.fixed_gib, cost.image_gib, batch=at_once(side, ENCODE_BATCH))

    def encode_captions(self, cell: CaptionsCell) -> Need:
        encoder = cell.diffusion.text_encoder
        released = encoder.pretrained is not None
        parameters = T5_PARAMETERS if released else 1e6
        wide = encoder.precision == "fp32"
        gmacs = parameters * encoder.tokens / 1e9
        rate = self.site.speeds.fp32 if wide else self.site.speeds.half
        weights = parameters * (4 if wide else 2) / 2**30
        return Need(
            images(cell.dataset, cell.split) * self._hours(gmacs, TRANSFORMERS, rate), weights, 0.2, batch=TEXT_BATCH
        )

    def reference_features(self, cell: ReferenceCell) -> Need:
        count = reference_images(cell.protocols[0], cell.dataset, cell.purpose)
        features = self._hours(FEATURES_GMACS * len(cell.protocols), CONVOLUTIONS, self.site.speeds.tf32)
        return Need(count * (features + hours_to_read(cell.resolution)), FEATURES_GIB, 0.1, batch=32, most_gpus=1)

    # --- evaluation ---

    def evaluate_reconstruction(self, cell: ResolvedCell) -> Need:
        entry, side = cell.autoencoder.entry, cell.resolution
        encode, decode = (self._coder(entry, side, kind) for kind in ("encode", "decode"))
        gmacs = encode.gmacs + decode.gmacs + FEATURES_GMACS * len(cell.protocols)
        count = reference_images(cell.protocols[0], cell.dataset, "reconstruction")
        hours = self._hours(gmacs, CONVOLUTIONS, self.site.speeds.tf32) + hours_to_read(side)
        image = max(encode.image_gib, decode.image_gib)
        return Need(count * hours, decode.fixed_gib + FEATURES_GIB, image, batch=at_once(side, EVALUATE_BATCH))

    def evaluate_generation(self, cell: ResolvedGeneration) -> Need:
        protocol, entry, side = cell.protocols[0], cell.diffusion, cell.resolution
        denoiser = self._cost(costs.of_denoiser(cell))
        decode = self._coder(cell.autoencoder.entry, side, "decode")
        guided = entry.guidance_scale != 1
        passes, sets = denoiser_passes(entry), 2 if guided else 1
        rate = self.site.speeds.tf32 if protocol.sampling_precision == "tf32" else self.site.speeds.fp32
        share = TRANSFORMERS if protocol.sampling_precision == "tf32" else 3 * TRANSFORMERS
        sampling = self._hours(denoiser.gmacs * passes * (3 if guided else 1), share, rate)
        features = sets * self._hours(decode.gmacs + FEATURES_GMACS, CONVOLUTIONS, self.site.speeds.tf32)
        memory = max(
            denoiser.image_gib * SAMPLES_BATCH * sets,  # of training, which is more; guidance doubles the batch
            decode.image_gib * at_once(side, SAMPLES_BATCH),
        )
        fixed = 4 * denoiser.parameters / 2**30 + decode.fixed_gib + FEATURES_GIB
        return Need(protocol.generation_images * (sampling + features), fixed + memory, 0)

    def profile_efficiency(self, cell: ResolvedGeneration) -> Need:
        return Need(PROFILE_HOURS, 0, 0, most_gpus=1)  # what does not fit is a result of it


def images(dataset: DatasetEntry, split: Literal["train", "validation"]) -> int:
    """Return the number of images of a split, as far as the entry says."""
    made = getattr(dataset, f"{split}_images", None)
    expected = getattr(getattr(dataset, "expected_images", None), split, None)
    return made or expected or UNKNOWN_IMAGES


def reference_images(
    protocol: Protocol, dataset: DatasetEntry, purpose: Literal["reconstruction", "generation"]
) -> int:
    """Return the number of real images of a measurement."""
    if purpose == "generation":
        return min(protocol.generation_reference_images, images(dataset, protocol.generation_reference))
    return min(protocol.reconstruction_images, images(dataset, "validation"))


def hours_to_read(resolution: int) -> float:
    """Return the hours that reading an image takes; larger ones are of larger files."""
    return SECONDS_TO_READ * max(1.0, (resolution / 512) ** 2) / READERS / 3600


def at_once(resolution: int, at_most: int) -> int:
    """Return the inference batch size, as ``dcae.autoencoders.tiling.images_at_once``, which needs torch."""
    return max(1, min(at_most, PIXELS_AT_ONCE // resolution**2))


def denoiser_passes(entry: DiffusionEntry) -> int:
    """Return the denoiser's passes for one sample without guidance."""
    return 2 * entry.sampling_steps if entry.sampler == "ode" else entry.sampling_steps


@functools.cache
def published_training_speeds() -> dict[tuple[str, int], float]:
    """Return the paper's training speeds, images per second on an H100 with checkpointing, by model and tokens."""
    return {
        (re.sub(r"†$", "", value.diffusion), value.tokens): value.value
        for value in read_published()
        if value.column == "training_images_per_second" and value.diffusion and value.tokens
    }
