# SPDX-License-Identifier: Apache-2.0
"""Results as a finished demo would leave them, with invented values: material for the tests of tables and figures."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from dcae.benchmark.record import Provenance, Record, Value
from evaluation.tables.rows import Result, TableCell

PROVENANCE = Provenance(
    created="2025-01-01T00:00:00+00:00", version="0", git_commit=None, git_dirty=None, command="dcae",
    config_digest="c", code_digest="c", inputs={}, packages={}, python="3.11", platform="test", seed=0,
    wall_seconds=1.0,
)  # fmt: skip
QUALITY = {"inception": {"network": "inception-v3", "weights": "random"}, "reconstruction_images": 64}
SPEED = {
    "precision": "fp32", "training_batch_size": 16, "inference_batch_size": 32, "latency_batch_size": 2,
    "memory_batch_size": 16,
}  # fmt: skip
PLACES = {
    ("scenes", 64): ("ImageNet", 256),
    ("scenes", 128): ("ImageNet", 512),
    ("photographs", 128): ("FFHQ", 1024),
}


def autoencoder(
    name: str, f: int, channels: int, paper_name: str | None, group: str = "autoencoders", **facts: Any
) -> dict[str, Any]:
    return {
        "autoencoder": name,
        "autoencoder_paper_name": paper_name,
        "autoencoder_kind": facts.get("kind", "dc-ae" if name.startswith("dc-ae") else "diffusers"),
        "spatial_compression": f,
        "latent_channels": channels,
        "group": group,
        "residual_shortcuts": facts.get("shortcuts", True if name.startswith("dc-ae") else None),
        "high_resolution_phase": facts.get("high", "middle" if name.startswith("dc-ae") else None),
        "gan": facts.get("gan", "decoder-head" if name.startswith("dc-ae") else "all"),
        "built_on": facts.get("built_on"),
        "study": facts.get("study"),
        "base": facts.get("base"),
        "differs": facts.get("differs"),
    }


# Invented quality in [0, 1] decides every value of reconstruction.
QUALITIES = [
    (autoencoder("sd-vae-f8-demo", 8, 4, "SD-VAE-f8"), 0.86),
    (autoencoder("sd-vae-f32-demo", 32, 32, "SD-VAE-f32c32"), 0.62),
    (autoencoder("sd-vae-f64-demo", 64, 128, "SD-VAE-f64c128"), 0.45),
    (autoencoder("dc-ae-f32-demo", 32, 32, "DC-AE-f32"), 0.84),
    (autoencoder("dc-ae-f64-demo", 64, 128, "DC-AE-f64"), 0.8),
    (
        autoencoder(
            "sd-vae-f8-space-to-channel-demo", 64, 256, None, kind="space-to-channel", built_on="sd-vae-f8-demo"
        ),
        0.855,
    ),
    (autoencoder("dc-ae-f32-no-residual-demo", 32, 32, None, "ablations", shortcuts=False), 0.66),
    (autoencoder("dc-ae-f64-no-residual-demo", 64, 128, None, "ablations", shortcuts=False), 0.5),
    (autoencoder("dc-ae-f64-no-high-resolution-demo", 64, 128, None, "ablations", high="none"), 0.78),
    (autoencoder("identity", 8, 192, None, "controls", kind="python"), 1.0),
    (autoencoder("blur", 8, 3, None, "controls", kind="python"), 0.4),
    (autoencoder("mean-colour", 8, 3, None, "controls", kind="python"), 0.1),
]


def variant(name: str, f: int, study: str, base: str, differs: str, **facts: Any) -> dict[str, Any]:
    return autoencoder(name, f, f * f // 32, None, "ablations", study=study, base=base, differs=differs, **facts)


# A benchmark of ablations: DC-AE at four compressions, and what each study takes away or replaces.
STUDIED = [
    *((autoencoder(f"dc-ae-f{f}", f, f * f // 32, f"DC-AE-f{f}"), 0.88 - f / 800) for f in (8, 16, 32, 64)),
    *(
        (
            variant(f"dc-ae-f{f}-no-shortcuts", f, "shortcuts", f"dc-ae-f{f}", "no shortcuts", shortcuts=False),
            0.86 - f / 160,
        )
        for f in (8, 16, 32, 64)
    ),
    *(
        (
            variant(
                f"dc-ae-f8-space-to-channel-f{f}", f, "shortcuts", f"dc-ae-f{f}", "space-to-channel after f8",
                kind="space-to-channel", built_on="dc-ae-f8", shortcuts=None,
            ),
            0.87 - f / 1000,
        )
        for f in (16, 32, 64)
    ),
    (variant("dc-ae-f32-low", 32, "high-resolution", "dc-ae-f32", "no high-resolution phase", high="none"), 0.83),
    (variant("dc-ae-f64-low", 64, "high-resolution", "dc-ae-f64", "no high-resolution phase", high="none"), 0.78),
    (variant("dc-ae-f32-no-gan", 32, "gan", "dc-ae-f32", "no GAN", gan="none"), 0.6),
    (variant("dc-ae-f32-full-gan", 32, "gan", "dc-ae-f32", "GAN on all parameters", gan="all"), 0.8),
    (variant("dc-ae-f32-kl", 32, "kl", "dc-ae-f32", "KL 1e-6, latents sampled"), 0.7),
    (variant("dc-ae-f32-transformer", 32, "blocks", "dc-ae-f32", "transformer blocks", shortcuts=False), 0.72),
    (variant("dc-ae-f32-single", 32, "recipe", "dc-ae-f32", "single-phase recipe", high="none", gan="all"), 0.65),
    (variant("dc-ae-f32-two-blocks", 32, "tuned-layers", "dc-ae-f32", "2 more blocks in phase 2"), 0.85),
    (autoencoder("sd-vae-f8", 8, 4, "SD-VAE-f8"), 0.9),
    (autoencoder("identity", 8, 192, None, "controls", kind="python"), 1.0),
    (autoencoder("blur", 8, 3, None, "controls", kind="python"), 0.4),
    (autoencoder("mean-colour", 8, 3, None, "controls", kind="python"), 0.1),
]  # fmt: skip
BY_NAME = {cell["autoencoder"]: cell for cell, _ in QUALITIES}


def changed(result: Result, **update: Any) -> Result:
    """A result with other fields of its record."""
    return replace(result, record=result.record.model_copy(update=update))


def elsewhere(result: Result, **update: Any) -> Result:
    """A result with other fields of its cell."""
    return replace(result, cell=replace(result.cell, **update))


def result(kind: str, facts: dict[str, Any], values: dict[str, Value], **fields: Any) -> Result:
    cell = TableCell(**facts)
    protocol = fields.pop("protocol", SPEED if kind == "efficiency" else QUALITY)
    names = ("dataset", "resolution", "autoencoder", "diffusion", "patch_size")
    record = Record(
        kind=kind,
        number_class=fields.pop("number_class", "control" if cell.group == "controls" else "reproduced"),
        cell={name: getattr(cell, name) for name in names if getattr(cell, name) is not None},
        values=values,
        protocol=protocol,
        protocol_fingerprint=fields.pop("fingerprint", f"{kind}-protocol"),
        device={"name": fields.pop("device", "Test CPU")},
        provenance=PROVENANCE,
    )
    return Result(cell, record)


def place(dataset: str, resolution: int) -> dict[str, Any]:
    published = PLACES[dataset, resolution]
    return {
        "dataset": dataset,
        "resolution": resolution,
        "published_dataset": published[0],
        "published_resolution": published[1],
    }


def reconstruction(
    dataset: str, resolution: int, facts: dict[str, Any], quality: float, random_features: bool = True
) -> Result:
    noise = random.Random(f"{dataset}{resolution}{facts['autoencoder']}")
    if resolution == 128 and facts["high_resolution_phase"] == "none" and facts["group"] == "ablations":
        quality -= 0.2
    lost = 1 - quality
    psnr = 12 + 16 * quality + noise.uniform(-0.2, 0.2)
    identity = quality == 1.0
    error = None if identity else 0.02
    values = {
        "rfid": Value(value=lost**2 * 40, n=64, standard_error=lost * 0.3, random_features=random_features),
        "psnr": Value(value=math.inf if identity else psnr, n=64, standard_error=None if identity else 0.2, unit="dB"),
        "ssim": Value(value=quality, n=64, standard_error=error),
        "lpips": Value(value=lost * 0.6, n=64, standard_error=error, random_features=random_features),
    }
    if facts["group"] != "controls":
        values |= latents(facts, lost, psnr, random_features)
    return result("reconstruction", {**place(dataset, resolution), **facts}, values)


def latents(facts: dict[str, Any], lost: float, psnr: float, random_features: bool) -> dict[str, Value]:
    """Diagnostics, of which latents of one position have no spectrum."""
    f, channels = facts["spatial_compression"], facts["latent_channels"]
    values = {
        "latent_std": Value(value=0.7, n=64),
        "latent_channel_spread": Value(value=1 + lost, n=64),
        "latent_effective_rank": Value(value=channels * (1 - lost / 2), n=64),
        "latent_flip_error": Value(value=0.1 + lost, n=64, standard_error=0.02),
        "latent_scale_error": Value(value=0.2 + lost, n=64, standard_error=0.02),
    }
    if f < 64:
        values["latent_high_frequencies"] = Value(value=0.1 + f / 200, n=64, standard_error=0.01)
    for noise in ("0", "0.1", "0.2", "0.5"):
        drop = 10 * float(noise)
        values[f"psnr_noise_{noise}"] = Value(value=psnr - drop, n=50, standard_error=0.2, unit="dB")
        values[f"rfid_noise_{noise}"] = Value(
            value=lost**2 * 40 + drop, n=50, standard_error=1.0, random_features=random_features
        )
    return values


def generation_cell(diffusion: str, paper: str, name: str, patch_size: int) -> dict[str, Any]:
    facts = BY_NAME[name]
    return {
        **place("scenes", 128),
        **facts,
        "diffusion": diffusion,
        "diffusion_paper_name": paper,
        "patch_size": patch_size,
        "tokens": (128 // facts["spatial_compression"] // patch_size) ** 2,
        "tables": (1, 3),
    }


def generation(cell: dict[str, Any], random_features: bool = True) -> list[Result]:
    noise = random.Random(str(cell["diffusion"]) + cell["autoencoder"] + str(cell["patch_size"]))
    fid = 60 + 20 * math.log2(cell["spatial_compression"] * cell["patch_size"] / 16) + 12 * (cell["patch_size"] - 1)
    fid += noise.uniform(-3, 3)
    measured = {"n": 256, "random_features": random_features}
    quality = {
        "fid_without_guidance": Value(value=fid, standard_error=2.0, **measured),
        "fid_with_guidance": Value(value=fid * 0.7, standard_error=1.5, **measured),
        "clip_score_without_guidance": Value(value=20.0, standard_error=0.1, **measured),
        "clip_score_with_guidance": Value(value=22.0, standard_error=0.1, **measured),
    }
    speed = 40000 / (cell["tokens"] + 20)
    efficiency = {
        "training_images_per_second": Value(value=speed, n=30, standard_error=speed * 0.01),
        "inference_images_per_second": Value(value=speed * 3.1, n=30, standard_error=speed * 0.02),
        "latency_ms": Value(value=2000 / speed, n=30, standard_error=0.05),
        "peak_memory_gib": Value(value=0.1 + cell["tokens"] / 1000, n=1),
        "parameters": Value(value=1_234_567 + 1000 * cell["latent_channels"], n=1),
        "gmacs": Value(value=cell["tokens"] * 0.0012, n=1),
    }
    return [result("generation", cell, quality), result("efficiency", cell, efficiency)]


def demo_records(random_features: bool = True) -> list[Result]:
    records = [
        reconstruction(dataset, resolution, facts, quality, random_features)
        for dataset, resolution in PLACES
        for facts, quality in QUALITIES
    ]
    uvit = [("sd-vae-f8-demo", 2), ("sd-vae-f8-demo", 4), ("sd-vae-f32-demo", 1), ("dc-ae-f32-demo", 1),
            ("sd-vae-f64-demo", 1), ("dc-ae-f64-demo", 1), ("sd-vae-f8-space-to-channel-demo", 1)]  # fmt: skip
    for name, patch_size in uvit:
        records += generation(generation_cell("uvit-demo", "UViT-S", name, patch_size), random_features)
    for name, patch_size in [("sd-vae-f8-demo", 4), ("dc-ae-f32-demo", 1)]:
        records += generation(generation_cell("dit-demo", "DiT-XL", name, patch_size), random_features)
    return records


def ablation_records(random_features: bool = True) -> list[Result]:
    places = [("scenes", 64), ("scenes", 128)]
    return [reconstruction(*where, facts, quality, random_features) for where in places for facts, quality in STUDIED]
