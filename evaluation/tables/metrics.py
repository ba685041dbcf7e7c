# SPDX-License-Identifier: Apache-2.0
"""Which values Tables 1 to 5 show, what their columns are called, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A value of the records as a table shows it.

    ``decimals`` are those of the paper; ``scale`` turns the record's unit into the printed one; ``ratio``: shown beside
    its ratio to the row f8 p2; ``published``: the paper's tables print it, as ``paper_name`` if that is another name.
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
        """What ``config/published`` calls it."""
        return self.paper_name or self.name

    @property
    def arrow(self) -> str:
        """The direction that is better, for headings."""
        return {"higher": " ↑", "lower": " ↓", None: ""}[self.better]


FID = (
    Metric("generation", "fid_without_guidance", "FID w/o CFG", "lower", 2),
    Metric("generation", "fid_with_guidance", "FID w/ CFG", "lower", 2),
)
RECONSTRUCTION = (
    Metric("reconstruction", "rfid", "rFID", "lower", 2),
    Metric("reconstruction", "psnr", "PSNR (dB)", "higher", 2),
    Metric("reconstruction", "ssim", "SSIM", "higher", 2),
    Metric("reconstruction", "lpips", "LPIPS", "lower", 3),
)
EFFICIENCY = (
    Metric("efficiency", "training_images_per_second", "Training (images/s)", "higher", 0, ratio=True),
    Metric("efficiency", "inference_images_per_second", "Inference (images/s)", "higher", 0, ratio=True),
    Metric("efficiency", "latency_ms", "Latency (ms)", "lower", 1),
    Metric("efficiency", "peak_memory_gib", "Memory (GiB)", "lower", 1),
    Metric("efficiency", "parameters", "Params (M)", None, 2, scale=1e-6, published=False),
    Metric("efficiency", "gmacs", "GMACs", None, 2, published=False),
)
CLIP_SCORE = Metric("generation", "clip_score_with_guidance", "CLIP score w/ CFG", "higher", 2, published=False)
# The paper does not say with which guidance scale it samples, but that of a text-to-image model is never 1.
TEXT_TO_IMAGE = (
    Metric("generation", "fid_with_guidance", "FID w/ CFG", "lower", 2, paper_name="fid"),
    Metric("generation", "clip_score_with_guidance", "CLIP score w/ CFG", "higher", 2, paper_name="clip_score"),
)

METRICS = {
    1: FID,
    2: RECONSTRUCTION,
    3: (*EFFICIENCY, *FID, CLIP_SCORE),
    4: (*EFFICIENCY, *FID),
    5: (*EFFICIENCY, *TEXT_TO_IMAGE),
}
