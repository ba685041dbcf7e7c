# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark: their names and captions, and how they are drawn.

Importing this module loads neither matplotlib nor torch: the workflow asks it for the files to expect. Each figure
draws the results that are there and says "not run" of the rest. Error bars are one standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.published import Published, read_published
from evaluation.tables.rows import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.figures.samples import GridOf

# Raise it when figures change, and say below what each raise changed.
# 2: no unguided FID as a guided one; means over seeds; second-hand numbers are marked
# 3: latents
RESULTS_VERSION = 3

# Name and caption of each figure.
FIGURES = {
    "figure2a": (
        "Figure 2a. Reconstruction rFID over spatial compression, at each dataset's lowest resolution; the paper's "
        "numbers (Table 2, and Figure 2a for f8) in a panel of their own. Lower is better."
    ),
    "figure2b": (
        "Figure 2b. FID at an equal number of tokens: the same compression done by the patch size of the diffusion "
        "model (left) or by the autoencoder (right). Filled: without guidance, hollow: with guidance. "
        "Paper: Table 1, and Table 3 for DC-AE-f32 on DiT-XL."
    ),
    "figure2c": (
        "Figure 2c. FID with guidance over the throughput of the denoiser: how much faster fewer tokens make a "
        "diffusion model, and at which quality; without guidance where the title says so. Lower right is better. "
        "Paper: Table 3."
    ),
    "figure3a": (
        "Figure 3a. Reconstruction over spatial compression at each dataset's lowest resolution: with and without "
        "residual shortcuts, beside the training-free space-to-channel operation on the f8 autoencoder."
    ),
    "figure3b": (
        "Figure 3b. From the low resolution of the training to a high one, with and without the high-resolution phase; "
        "f8 for comparison."
    ),
    "figure5": (
        "Figure 5. Reconstruction rFID at each dataset's lowest resolution without a GAN loss, with one on all "
        "parameters, and with one on the decoder's head alone (the third phase); the paper's numbers in a panel of "
        "their own. Lower is better."
    ),
    "latents": (
        "Diagnostics of latents, known before a diffusion model is trained, and the FID of diffusion models trained "
        "on them; data and resolution are those of the diffusion models."
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


def draw_figure(name: str, results: Sequence[Result], published: Published, grid_of: GridOf) -> Figure:
    """Draw a figure.

    Args:
        name: a key of ``FIGURES``.
        results: of any kind, in the order of the benchmark.
        published: the paper's numbers.
        grid_of: returns the path of a result's PNG grid, which ``evaluation.quality.image_grid`` wrote.

    Raises:
        ValueError: a PNG grid does not consist of tiles of its cell's resolution.
    """
    from evaluation.figures.figure2 import figure_2a, figure_2b, figure_2c
    from evaluation.figures.figure3 import figure_3a, figure_3b
    from evaluation.figures.figure5 import figure_5
    from evaluation.figures.latents import figure_latents
    from evaluation.figures.samples import figure_generation_samples, figure_reconstruction_samples

    of_samples = {
        "reconstruction_samples": figure_reconstruction_samples,
        "generation_samples": figure_generation_samples,
    }
    if name in of_samples:
        return of_samples[name](results, grid_of)
    of_numbers = {
        "figure2a": figure_2a, "figure2b": figure_2b, "figure2c": figure_2c, "figure3a": figure_3a,
        "figure3b": figure_3b, "figure5": figure_5, "latents": figure_latents,
    }  # fmt: skip
    return of_numbers[name](results, published)


def draw_figures(
    results: Sequence[Result], grid_of: GridOf, folder: Path, published: Published | None = None
) -> list[Path]:
    """Write every figure as PNG and PDF with its caption inside; arguments as of ``draw_figure``. Returns the paths."""
    from evaluation.figures.style import save_figure
    from evaluation.tables.seeds import over_seeds

    published = published if published is not None else read_published()
    results, _ = over_seeds(results, {})
    written = []
    for name, caption in FIGURES.items():
        written += save_figure(draw_figure(name, results, published, grid_of), folder, name, caption)
    return written
