# SPDX-License-Identifier: Apache-2.0
"""Identity stored with cached latents and captions; a reader that expects another one refuses the folder.

Digests decide; the other fields let the error name the difference. ``None`` is not known to the reader
and not compared: the images where only their latents were brought, the file of unpinned released weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcae.benchmark import ResolvedAutoencoder, ResolvedCell
from dcae.files import sha256
from dcae.weights.hub import find
from workflow import layout
from workflow.staleness.configuration import CaptionsCell
from workflow.staleness.steps import CAPTIONS, ENCODE

AS_RELEASED = "as released"  # or measured, where the release says nothing
Identity = dict[str, str | None]


def latents_identity(
    cell: ResolvedCell, weights: Path | None, images: str | None, released: str | None = None
) -> Identity:
    """Return the identity of a cell's latents.

    Args:
        cell: autoencoder, dataset and resolution.
        weights: folder of the trained autoencoder; ``None`` if its weights are released, or it has none.
        images: fingerprint of the images.
        released: sha256 of the file of released weights; default: the one that the entry pins.
    """
    entry, base, pretrained = cell.autoencoder.entry, cell.autoencoder.base, cell.autoencoder.pretrained
    from dcae.autoencoders.folder import read_config  # loads torch, which a plan does without

    stored = read_config(weights) if weights else {}
    pinned = pretrained.sha256 if pretrained else "none"
    return {
        "autoencoder": entry.name,
        "dataset": cell.dataset.name,
        "images": images,
        "resolution": str(cell.resolution),
        "posterior": getattr(base, "posterior", "mode"),
        "latent_scale": str(_first_given(entry.latent_scale, stored.get("scaling_factor"), AS_RELEASED)),
        "latent_shift": str(_first_given(entry.latent_shift, stored.get("shift_factor"), AS_RELEASED)),
        "config": ENCODE.configuration(cell),
        "results_version": str(ENCODE.version),
        "weights": sha256(weights / layout.AUTOENCODER_WEIGHTS) if weights else released or pinned,
    }


def released_weights(autoencoder: ResolvedAutoencoder) -> str | None:
    """Return the sha256 of the file of an autoencoder's released weights; ``None`` if it has none.

    Raises:
        WeightsError: the file is not there.
    """
    pretrained = autoencoder.pretrained
    return sha256(find(f"autoencoder {autoencoder.base.name}", pretrained)) if pretrained else None


def _first_given(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def captions_identity(cell: CaptionsCell, captions: str | None) -> Identity:
    """Return the identity of embedded captions, given the fingerprint of their texts."""
    encoder = cell.diffusion.text_encoder
    return {
        "dataset": cell.dataset.name,
        "split": cell.split,
        "captions": captions,
        "text_encoder": encoder.pretrained.id if encoder.pretrained else f"random weights of seed {encoder.seed}",
        "tokens": str(encoder.tokens),
        "config": CAPTIONS.configuration(cell),
        "results_version": str(CAPTIONS.version),
    }
