# SPDX-License-Identifier: Apache-2.0
"""The columns of Tables 1 to 5 and of the tables of protocols; metrics of quality come from the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evaluation.metrics.registry import CLIP_SCORE as CLIP
from evaluation.metrics.registry import SET_METRICS, QualityMetric, metrics_of_reconstructions


@dataclass(frozen=True)
class Metric:
    """A value of the records as a table shows it.

    Attributes:
        kind: of the record.
        name: of the value in the record.
        title: heading of the column.
        better: ``higher``, ``lower``, or ``None``.
        decimals: as the paper prints.
        scale: factor from the record's unit to the printed one.
        published: the paper's tables print it.
        ratio: print the ratio to the row f8 p2, too.
        paper_name: name in ``config/published``, if another one.
    """

    kind: str
    name: str
    title: str
    better: str | None
    decimals: int
    scale: float = 1.0
    published: bool = True
    ratio: bool = False
    paper_name: str | None = None

    @property
    def published_name(self) -> str:
        """Its name in ``config/published``."""
        return self.paper_name or self.name

    @property
    def arrow(self) -> str:
        """The better direction, for headings."""
        return {"higher": " ↑", "lower": " ↓", None: ""}[self.better]


TABLE_2 = ("rfid", "psnr", "ssim", "lpips")


def reconstruction_column(metric: QualityMetric) -> Metric:
    """Return the column of a metric of reconstructions."""
    return Metric("reconstruction", metric.name, metric.heading, metric.better, metric.decimals)


def generation_columns(metric: QualityMetric) -> tuple[Metric, Metric]:
    """Return the columns of a metric of samples, without and with classifier-free guidance."""
    without, guided = (
        Metric("generation", f"{metric.name}_{setting}_guidance", f"{metric.heading} {short} CFG", metric.better,
               metric.decimals, published=metric.name == "fid")
        for setting, short in (("without", "w/o"), ("with", "w/"))
    )  # fmt: skip
    return without, guided


ALL_OF_RECONSTRUCTION = tuple(map(reconstruction_column, metrics_of_reconstructions()))
RECONSTRUCTION = tuple(metric for metric in ALL_OF_RECONSTRUCTION if metric.name in TABLE_2)
FID, *OTHER_OF_GENERATION = map(generation_columns, SET_METRICS)
EFFICIENCY = (
    Metric("efficiency", "training_images_per_second", "Training (images/s)", "higher", 0, ratio=True),
    Metric("efficiency", "inference_images_per_second", "Inference (images/s)", "higher", 0, ratio=True),
    Metric("efficiency", "latency_ms", "Latency (ms)", "lower", 1),
    Metric("efficiency", "peak_memory_gib", "Memory (GiB)", "lower", 1),
    Metric("efficiency", "parameters", "Params (M)", None, 2, scale=1e-6, published=False),
    Metric("efficiency", "gmacs", "GMACs", None, 2, published=False),
)
_, CLIP_SCORE = generation_columns(CLIP)
# The paper does not give the guidance scale of its text-to-image samples; it is never 1.
TEXT_TO_IMAGE = tuple(
    replace(metric, published=True, paper_name=name) for metric, name in ((FID[1], "fid"), (CLIP_SCORE, "clip_score"))
)

NOISES = ("0", "0.1", "0.2", "0.5")  # of evaluation.quality.latent_diagnostics, which imports torch
LATENTS = (
    Metric("reconstruction", "latent_std", "Std", None, 3, published=False),
    Metric("reconstruction", "latent_channel_spread", "Spread", None, 1, published=False),
    Metric("reconstruction", "latent_effective_rank", "Effective rank", "higher", 1, published=False),
    Metric("reconstruction", "latent_high_frequencies", "High frequencies", "lower", 3, published=False),
    Metric("reconstruction", "latent_flip_error", "Flip error", "lower", 3, published=False),
    Metric("reconstruction", "latent_scale_error", "Scale error", "lower", 3, published=False),
    *(Metric("reconstruction", f"psnr_noise_{n}", f"PSNR (dB), noise {n}", "higher", 2, published=False)
      for n in NOISES),
    *(Metric("reconstruction", f"rfid_noise_{n}", f"rFID, noise {n}", "lower", 2, published=False) for n in NOISES),
)  # fmt: skip

METRICS = {
    1: FID,
    2: RECONSTRUCTION,
    3: (*EFFICIENCY, *FID, CLIP_SCORE),
    4: (*EFFICIENCY, *FID),
    5: (*EFFICIENCY, *TEXT_TO_IMAGE),
}
# What the tables of protocols show of each kind of record.
OF_KIND = {
    "reconstruction": ALL_OF_RECONSTRUCTION,
    "generation": (*FID, CLIP_SCORE, *(column for pair in OTHER_OF_GENERATION for column in pair)),
}
