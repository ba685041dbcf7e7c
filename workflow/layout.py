# SPDX-License-Identifier: Apache-2.0
"""Every path below ``results/``.

Paths are patterns below a benchmark's folder. Rules use them with Snakemake's wildcards, ``rule(LATENTS)``; commands
fill them in, ``file(benchmark, LATENTS, dataset="scenes", ...)``. Both take their file names from here.
"""

from __future__ import annotations

import glob
from pathlib import Path

RESULTS = "results"

CONFIG = "config.json"
AUTOENCODER_WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' name
DENOISER_WEIGHTS = "model.safetensors"
INDEX = "index.json"
LOG = "training_log.jsonl"  # of a training, in its output

_PLACE = "{dataset}-{resolution}"
_CELL = _PLACE + "/{autoencoder}"
_MODEL = _CELL + "/{diffusion}-p{patch_size}"

# Checkpoints are in a folder beside a training's output, since Snakemake deletes the outputs of failed jobs.
AUTOENCODER = "autoencoders/{autoencoder}/{phase}"
AUTOENCODER_STATE = f"{AUTOENCODER}.state"
DENOISER = f"diffusion/{_MODEL}"
DENOISER_STATE = f"{DENOISER}.state"
LATENTS = f"latents/{_CELL}"
CAPTIONS = "captions/{dataset}-{split}/{diffusion}"
REFERENCE = f"reference/{{purpose}}/{_PLACE}.safetensors"
GENERATED = f"generated/{_MODEL}"

RECORDS = "records"
RECONSTRUCTION_RECORD = f"{RECORDS}/reconstruction/{_CELL}.json"
GENERATION_RECORD = f"{RECORDS}/generation/{_MODEL}.json"
EFFICIENCY_RECORD = f"{RECORDS}/efficiency/{_MODEL}.json"
PER_IMAGE = f"per_image/{_CELL}.parquet"
EVALUATION_STATE = f"per_image/{_CELL}.state"

RECONSTRUCTION_SAMPLES = f"samples/reconstruction/{_CELL}.png"
GENERATION_SAMPLES = f"samples/generation/{_MODEL}.png"

EXTENDED = "with"  # the benchmark with the entries of dcae run --with

TABLES = "tables"
TABLE = f"{TABLES}/{{name}}.{{form}}"
PAGE = "index.html"
FIGURES = "figures"
FIGURE = f"{FIGURES}/{{name}}.{{form}}"

TRAINING_LOG = "logs/train/{autoencoder}-{phase}.log"
TRAINING_ATTEMPTS = "logs/train/{autoencoder}-{phase}.attempts.log"
REFERENCE_LOG = f"logs/reference/{{purpose}}-{_PLACE}.log"
RECONSTRUCTION_LOG = f"logs/reconstruction/{_PLACE}-{{autoencoder}}.log"
LATENTS_LOG = f"logs/latents/{_PLACE}-{{autoencoder}}.log"
CAPTIONS_LOG = "logs/captions/{dataset}-{split}-{diffusion}.log"
DENOISER_LOG = f"logs/train/{_PLACE}-{{autoencoder}}-{{diffusion}}-p{{patch_size}}.log"
DENOISER_ATTEMPTS = f"logs/train/{_PLACE}-{{autoencoder}}-{{diffusion}}-p{{patch_size}}.attempts.log"
GENERATION_LOG = f"logs/generation/{_PLACE}-{{autoencoder}}-{{diffusion}}-p{{patch_size}}.log"
EFFICIENCY_LOG = f"logs/efficiency/{_PLACE}-{{autoencoder}}-{{diffusion}}-p{{patch_size}}.log"
STEP_LOG = "logs/{name}.log"

IMAGES_STATE = "images/{dataset}-{split}.txt"

DATASET_MANIFEST = "datasets/{dataset}.parquet"  # of dcae data check, beside the benchmarks


def rule(pattern: str, *below: str) -> str:
    """Return a pattern as rules have it: below ``results/{benchmark}``, with wildcards."""
    return "/".join([RESULTS, "{benchmark}", pattern, *below])


def elsewhere(given: Path, benchmark: str, pattern: str, **names: str | int) -> list[Path]:
    """Return the same file or folder of other benchmarks beside this one; none if ``given`` is not at its place."""
    own = Path(benchmark, pattern.format(**names))
    if given.parts[-len(own.parts) :] != own.parts:
        return []
    results = given.parents[len(own.parts) - 1]
    found = results.glob(f"*/{glob.escape(pattern.format(**names))}")
    return sorted(path for path in found if path != given)


def file(benchmark: str, pattern: str, results: Path | str = RESULTS, **names: str | int) -> Path:
    """Return the path of a benchmark's file or folder."""
    return Path(results) / benchmark / pattern.format(**names)
