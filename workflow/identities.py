# SPDX-License-Identifier: Apache-2.0
"""What made a folder of latents or captions; whoever reads what something else made refuses it.

Digests tell everything apart; what stands beside them is for the error, which names what differs. A value of ``None``
is not known to who reads, and not compared: the images where only their latents were brought, the file of released
weights where the entry does not pin it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dcae.benchmark import Benchmark, ConfigError, digests
from dcae.benchmark.entries import AutoencoderFields
from dcae.files import sha256
from dcae.weights.hub import find
from workflow.steps import code_of

Identity = dict[str, str | None]


def latents_identity(
    benchmark: Benchmark,
    dataset: str,
    resolution: int,
    autoencoder: str,
    weights: Path | None,
    images: str | None,
    released: str | None = None,
) -> Identity:
    """Of latents.

    Args:
        benchmark: where the entries are looked up.
        dataset, resolution, autoencoder: of the latents.
        weights: folder of the trained autoencoder; ``None`` if its weights are released, or it has none.
        images: fingerprint of the images.
        released: sha256 of the file of released weights, by default the one that the entry pins.
    """
    entry = benchmark.autoencoder(autoencoder)
    stored = json.loads((weights / "config.json").read_text()) if weights else {}
    below = _below(benchmark, autoencoder)
    pretrained = getattr(below, "pretrained", None)
    pinned = pretrained.sha256 if pretrained else "none"
    return {
        "autoencoder": autoencoder,
        "dataset": dataset,
        "images": images,
        "resolution": str(resolution),
        "posterior": getattr(below, "posterior", "mode"),
        "latent_scale": str(_first_given(entry.latent_scale, stored.get("scaling_factor"), "as released")),
        "latent_shift": str(_first_given(entry.latent_shift, stored.get("shift_factor"), "as released")),
        "config": digests.latents_digest(benchmark, dataset, resolution, autoencoder),
        "code": code_of("encode", benchmark, [dataset], autoencoder),
        "weights": sha256(weights / "diffusion_pytorch_model.safetensors") if weights else released or pinned,
    }


def released_weights(benchmark: Benchmark, autoencoder: str) -> str | None:
    """Sha256 of the file of an autoencoder's released weights; ``None`` if it has none.

    Raises:
        WeightsError: there should be one, and it is not there.
    """
    below = _below(benchmark, autoencoder)
    pretrained = getattr(below, "pretrained", None)
    return sha256(find(f"autoencoder {below.name}", pretrained)) if pretrained else None


def _below(benchmark: Benchmark, autoencoder: str) -> AutoencoderFields:
    """The entry that has the weights."""
    entry = benchmark.autoencoder(autoencoder)
    return _below(benchmark, entry.autoencoder) if entry.kind == "space-to-channel" else entry


def _first_given(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def captions_identity(benchmark: Benchmark, dataset: str, split: str, diffusion: str, captions: str | None) -> Identity:
    """Of embedded captions; ``captions`` is the fingerprint of what they are made of.

    Raises:
        ConfigError: the diffusion model is not conditioned on captions.
    """
    entry = benchmark.diffusion(diffusion)
    if entry.conditioning != "caption":
        raise ConfigError(f"diffusion entry {diffusion}: conditioning is {entry.conditioning}, so it takes no captions")
    encoder = entry.text_encoder
    return {
        "dataset": dataset,
        "split": split,
        "captions": captions,
        "text_encoder": encoder.pretrained.id if encoder.pretrained else f"random weights of seed {encoder.seed}",
        "tokens": str(encoder.tokens),
        "config": digests.captions_digest(benchmark, dataset, diffusion),
        "code": code_of("captions", benchmark, [dataset]),
    }
