# SPDX-License-Identifier: Apache-2.0
"""Every figure of a benchmark, from its records, the published numbers and the sample images.

Each figure draws what is there and says "not run" of the rest. Error bars are one standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dcae.benchmark.record import Record
from evaluation.figures.figure2 import figure_2a, figure_2b, figure_2c
from evaluation.figures.figure3 import figure_3a, figure_3b
from evaluation.figures.figure5 import figure_5
from evaluation.figures.samples import figure_generation_samples, figure_reconstruction_samples
from evaluation.figures.style import save_figure
from evaluation.published import Published, read_published

FIGURES: dict[str, Callable[[Sequence[Record], Published], Figure]] = {
    "figure2a": figure_2a,
    "figure2b": figure_2b,
    "figure2c": figure_2c,
    "figure3a": figure_3a,
    "figure3b": figure_3b,
    "figure5": figure_5,
}
SAMPLE_FIGURES: dict[str, Callable[[Sequence[Record], Path], Figure]] = {
    "reconstruction_samples": figure_reconstruction_samples,
    "generation_samples": figure_generation_samples,
}
CAPTIONS = {
    "figure2a": (
        "Figure 2a. Reconstruction rFID over spatial compression, at each data set's lowest resolution; the paper's "
        "numbers (Table 2, and Figure 2a for f8) in a panel of their own. Lower is better."
    ),
    "figure2b": (
        "Figure 2b. FID at an equal number of tokens: the same compression done by the patch size of the diffusion "
        "model (left) or by the autoencoder (right). Filled: without guidance, hollow: with guidance. "
        "Paper: Table 1, and Table 3 for DC-AE-f32 on DiT-XL."
    ),
    "figure2c": (
        "Figure 2c. FID with guidance over the throughput of the denoiser: how much faster fewer tokens make a "
        "diffusion model, and at which quality. Lower right is better. Paper: Table 3."
    ),
    "figure3a": (
        "Figure 3a. Reconstruction over spatial compression at each data set's lowest resolution: with and without "
        "residual shortcuts, beside the training-free space-to-channel operation on the f8 autoencoder."
    ),
    "figure3b": (
        "Figure 3b. From the low resolution of the training to a high one, with and without the high-resolution phase; "
        "f8 for comparison."
    ),
    "figure5": (
        "Figure 5. Reconstruction rFID at each data set's lowest resolution without a GAN loss, with one on all "
        "parameters, and with one on the decoder's head alone (the third phase); the paper's numbers in a panel of "
        "their own. Lower is better."
    ),
    "reconstruction_samples": (
        "Reconstructions, as in Figure 7: validation images and what each autoencoder makes of them, with its mean "
        "PSNR over all evaluated images."
    ),
    "generation_samples": (
        "Samples, as in Figure 8: each row one diffusion model on one autoencoder, each column the same label and "
        "noise; left without, right with classifier-free guidance."
    ),
}


def draw_figures(
    records: Iterable[Record],
    samples: Path,
    folder: Path,
    published: Published | None = None,
    names: Iterable[str] = CAPTIONS,
) -> list[Path]:
    """Write figures as PNG and PDF with their captions inside. Returns the paths.

    Args:
        records: of any kind, in the order of the benchmark.
        samples: the folder of the PNG grids that ``evaluation.quality.image_grid`` wrote.
        folder: where the figures go.
        published: the paper's numbers; by default those of ``config/published``.
        names: of the figures to draw; by default all.

    Raises:
        ValueError: a PNG grid does not consist of tiles of its cell's resolution.
    """
    records = list(records)
    published = published if published is not None else read_published()
    written = []
    for name in names:
        if name in FIGURES:
            figure = FIGURES[name](records, published)
        else:
            figure = SAMPLE_FIGURES[name](records, samples)
        written += save_figure(figure, folder, name, CAPTIONS[name])
    return written
