# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark: their names and captions, and how each is drawn.

Importing this module loads neither matplotlib nor torch: the workflow asks it for the files to expect. Each figure
draws the results that are there and says "not run" of the rest. Error bars are one standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.published import Published, read_published
from evaluation.tables.rows import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Raise it when figures change, and say below what each raise changed.
RESULTS_VERSION = 1

FORMS = ("png", "pdf")


@dataclass(frozen=True)
class Shown:
    """The content of figures: results in the order of the benchmark, the paper's numbers, and the folder of samples.

    ``samples`` holds the PNG grids that ``evaluation.quality.image_grid`` wrote.
    """

    results: Sequence[Result]
    published: Published
    samples: Path


@dataclass(frozen=True)
class FigureSpec:
    """A figure: its caption, and the function that draws it with imports of its own."""

    caption: str
    draw: Callable[[Shown], Figure]


def _figure_2a(shown: Shown) -> Figure:
    from evaluation.figures.figure2 import figure_2a

    return figure_2a(shown.results, shown.published)


def _figure_2b(shown: Shown) -> Figure:
    from evaluation.figures.figure2 import figure_2b

    return figure_2b(shown.results, shown.published)


def _figure_2c(shown: Shown) -> Figure:
    from evaluation.figures.figure2 import figure_2c

    return figure_2c(shown.results, shown.published)


def _figure_3a(shown: Shown) -> Figure:
    from evaluation.figures.figure3 import figure_3a

    return figure_3a(shown.results, shown.published)


def _figure_3b(shown: Shown) -> Figure:
    from evaluation.figures.figure3 import figure_3b

    return figure_3b(shown.results, shown.published)


def _figure_5(shown: Shown) -> Figure:
    from evaluation.figures.figure5 import figure_5

    return figure_5(shown.results, shown.published)


def _reconstruction_samples(shown: Shown) -> Figure:
    from evaluation.figures.samples import figure_reconstruction_samples

    return figure_reconstruction_samples(shown.results, shown.samples)


def _generation_samples(shown: Shown) -> Figure:
    from evaluation.figures.samples import figure_generation_samples

    return figure_generation_samples(shown.results, shown.samples)


FIGURES = {
    "figure2a": FigureSpec(
        "Figure 2a. Reconstruction rFID over spatial compression, at each data set's lowest resolution; the paper's "
        "numbers (Table 2, and Figure 2a for f8) in a panel of their own. Lower is better.",
        _figure_2a,
    ),
    "figure2b": FigureSpec(
        "Figure 2b. FID at an equal number of tokens: the same compression done by the patch size of the diffusion "
        "model (left) or by the autoencoder (right). Filled: without guidance, hollow: with guidance. "
        "Paper: Table 1, and Table 3 for DC-AE-f32 on DiT-XL.",
        _figure_2b,
    ),
    "figure2c": FigureSpec(
        "Figure 2c. FID with guidance over the throughput of the denoiser: how much faster fewer tokens make a "
        "diffusion model, and at which quality. Lower right is better. Paper: Table 3.",
        _figure_2c,
    ),
    "figure3a": FigureSpec(
        "Figure 3a. Reconstruction over spatial compression at each data set's lowest resolution: with and without "
        "residual shortcuts, beside the training-free space-to-channel operation on the f8 autoencoder.",
        _figure_3a,
    ),
    "figure3b": FigureSpec(
        "Figure 3b. From the low resolution of the training to a high one, with and without the high-resolution phase; "
        "f8 for comparison.",
        _figure_3b,
    ),
    "figure5": FigureSpec(
        "Figure 5. Reconstruction rFID at each data set's lowest resolution without a GAN loss, with one on all "
        "parameters, and with one on the decoder's head alone (the third phase); the paper's numbers in a panel of "
        "their own. Lower is better.",
        _figure_5,
    ),
    "reconstruction_samples": FigureSpec(
        "Reconstructions, as in Figure 7: validation images and what each autoencoder makes of them, with its mean "
        "PSNR over all evaluated images.",
        _reconstruction_samples,
    ),
    "generation_samples": FigureSpec(
        "Samples, as in Figure 8: each row one diffusion model on one autoencoder, each column the same label and "
        "noise; left without, right with classifier-free guidance.",
        _generation_samples,
    ),
}


def draw_figures(
    results: Iterable[Result], samples: Path, folder: Path, published: Published | None = None
) -> list[Path]:
    """Write every figure as PNG and PDF with its caption inside. Returns the paths.

    Args:
        results: of any kind, in the order of the benchmark.
        samples: the folder of the sample images.
        folder: where the figures go.
        published: the paper's numbers; by default those of ``config/published``.

    Raises:
        ValueError: a PNG grid does not consist of tiles of its cell's resolution.
    """
    from evaluation.figures.style import save_figure

    shown = Shown(list(results), published if published is not None else read_published(), samples)
    written = []
    for name, figure in FIGURES.items():
        written += save_figure(figure.draw(shown), folder, name, figure.caption)
    return written
