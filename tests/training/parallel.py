# SPDX-License-Identifier: Apache-2.0
"""What several processes train and compute together, and one process alone, to be compared.

As a program (``parallel.py FOLDER``, in the environment that torchrun makes) it is one of the processes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import torch
from accelerate import PartialState
from torch import Tensor, nn

from dcae.autoencoders.loading import load
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import ADAPTERS
from dcae.data.loading import open_dataset
from dcae.diffusion.captions.encode import encode_captions
from dcae.diffusion.latents.encode import encode_dataset
from dcae.training import autoencoder, gan
from dcae.training.denoiser import train_denoiser
from dcae.training.stopping import TrainingDiverged, Unfinished
from tests.training import tiny

ENTRY = tiny.dc_ae("RMSNorm")  # processes share the statistics of BatchNorm on GPUs only
BOTH = {"perceptual": tiny.LPIPS, "gan": {**tiny.GAN, "start_step": 1, "adaptive_weight": True}}
STEPS, STOPPED_AT = 5, 3
PLAIN = {"gradient_clip": 1.0, "ema": {"decay": 0.5}}
RECIPE = tiny.recipe(
    tiny.phase("plain", "all", **PLAIN),
    tiny.phase("recomputed", "all", gradient_checkpointing=True, **PLAIN),
    tiny.phase("adversarial", "all", losses=BOTH),
    tiny.phase(
        "everything", "all", steps=STEPS, losses=BOTH, gradient_clip=1.0, ema={"decay": 0.9, "ramp_steps": 2},
        gradient_accumulation=2, gradient_checkpointing=True,
    ),
)  # fmt: skip
DENOISER = ADAPTERS["diffusion"].validate_python(
    {"name": "tiny-pixart", "kind": "pixart", "depth": 2, "width": 16, "heads": 2, "recipe": "tiny",
     "conditioning": "caption", "caption_channels": 8, "interpolation_scale": 1, "text_encoder": {"config": {}},
     "sampler": "dpm-solver++-multistep", "sampling_steps": 2, "guidance_scale": 1.5}
)  # fmt: skip
DENOISER_RECIPE = ADAPTERS["recipes"].validate_python(
    {"name": "tiny", "kind": "diffusion", "steps": STEPS, "batch_size": 8, "checkpoint_every": 2,
     "objective": "epsilon-learned-range", "label_dropout": 0.3,
     "noise_schedule": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
     "optimiser": {"learning_rate": 1e-3, "warmup_steps": 2}, "gradient_clip": 1.0, "ema": {"decay": 0.5},
     "gradient_accumulation": 2, "gradient_checkpointing": True}
)  # fmt: skip


def embed(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """In place of a text encoder: embeddings [B, 4, 8] and mask [B, 4] that follow from each caption."""
    seeds = [crc32(caption.encode()) for caption in captions]
    embeddings = torch.stack([torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    return embeddings, torch.arange(4) <= torch.tensor(seeds)[:, None] % 4


def prepare_captions(folder: Path) -> None:
    """Latents [4, 4, 4] and embedded captions of scenes."""
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    encode_dataset(load(tiny.dc_ae(latent_scale=0.5)), images, folder / "latents", {})
    encode_captions(embed, images, folder / "captions", {})


def train_on_captions(data: Path, folder: Path) -> Path:
    """Train a PixArt-α on what ``prepare_captions`` made; the folder of its weights."""
    train_denoiser(
        entry=DENOISER, recipe=DENOISER_RECIPE, latents=data / "latents", captions=data / "captions", patch_size=1,
        output=folder / "captions", state=folder / "captions.state", seed=0, config_digest="config",
    )  # fmt: skip
    return folder / "captions"


class DiscriminatorWithoutBatchNorm(gan.PatchDiscriminator):
    """What CPUs can train in several processes."""

    def __init__(self, layers: int = 3, width: int = 64):
        super().__init__(layers, width)
        kept = [layer for layer in self.main if not isinstance(layer, nn.BatchNorm2d)]
        self.main = nn.Sequential(*kept)


def diverge(folder: Path, rank: int) -> None:
    """Train until a loss of the last process is not finite, and tell how that ended."""
    step = autoencoder.PhaseTraining.step

    def poisoned(self, number: int, batch):
        terms = step(self, number, batch)
        return {name: term * torch.nan for name, term in terms.items()} if rank == 1 and number == 3 else terms

    autoencoder.PhaseTraining.step = poisoned
    try:
        tiny.train(folder, ENTRY, RECIPE, "plain")
    except TrainingDiverged as error:
        print(error, flush=True)
    autoencoder.PhaseTraining.step = step


def stop_one_process(folder: Path, rank: int) -> None:
    """Train until the last process gets SIGTERM, and on from there."""
    step = autoencoder.PhaseTraining.step

    def signalled(self, number: int, batch):
        if number == STOPPED_AT - 1 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    autoencoder.PhaseTraining.step = signalled
    try:
        tiny.train(folder, ENTRY, RECIPE, "everything")
    except Unfinished as error:
        print(error, flush=True)
    autoencoder.PhaseTraining.step = step
    torch.manual_seed(77)  # what a process drew before must not matter
    tiny.train(folder, ENTRY, RECIPE, "everything")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    gan.PatchDiscriminator = DiscriminatorWithoutBatchNorm
    for name in ("plain", "recomputed", "adversarial", "everything"):
        tiny.train(folder, ENTRY, RECIPE, name)
    train_on_captions(folder, folder)
    state = PartialState()
    stop_one_process(folder / "stopped", state.process_index)
    diverge(folder / "diverged", state.process_index)
    try:
        tiny.train(folder / "refused", tiny.dc_ae(), RECIPE, "plain")
    except ConfigError as error:
        print(error, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
