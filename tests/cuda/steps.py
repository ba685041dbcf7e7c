# SPDX-License-Identifier: Apache-2.0
"""Runs pieces of the project on the stand-in for CUDA, and prints their counts as JSON.

fp16 stands for bf16, whose convolutions would need cuDNN's graphs. Nothing may depend on a number that is computed on
the device.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn

from dcae.autoencoders.convolution import Conv2d
from dcae.autoencoders.dc_ae_blocks import RMSNorm2d
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import ADAPTERS
from dcae.data.loading import open_dataset
from dcae.data.mixture import Mixture
from dcae.diffusion.models.build import build_denoiser
from dcae.training import engine
from dcae.training.autoencoder import PhaseTraining
from dcae.training.batches import Batch
from dcae.training.denoiser import DenoiserTraining
from evaluation.quality.one_pass import OnePass, reconstruct_images
from tests.autoencoders.small import dc_ae
from tests.cuda.stand_in import Counts, Device
from tests.training import tiny

torch.backends.cuda.enable_cudnn_sdp(False)  # needs cuDNN's graphs; flash attention stands for it
CUDA, HALF = torch.device("cuda"), torch.float16
count = Device()


def told(counts: Counts) -> dict:
    return {
        "kernels": counts.of("KERNEL"),
        "convolutions": counts.of("CONVOLUTION"),
        "NCHW convolutions": counts.of("CONVOLUTION", "NCHW"),
        "waits": counts.waits,
        "pageable copies": counts.of("COPY", "pageable"),
    }


def layers_of_dc_ae() -> dict:
    """Layouts in a forward and backward pass of DC-AE."""
    autoencoder = load(dc_ae()).to(CUDA).train()
    layouts, copied = {}, []
    for name, module in autoencoder.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: layouts.update(
                {name: out.dim() < 4 or out.is_contiguous(memory_format=torch.channels_last)}
            )
        )
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _module, inputs, name=name: (
                    copied.append(name) if not inputs[0].is_contiguous(memory_format=torch.channels_last) else None
                )
            )
    images = torch.zeros(2, 3, 64, 64, device=CUDA)

    def step() -> None:
        with torch.autocast("cuda", HALF):
            out = autoencoder.decode(autoencoder.encode(images))
        out.float().sum().backward()

    step()
    layouts.clear()
    copied.clear()
    found = told(count(step))
    return found | {"not channels last": [name for name, kept in layouts.items() if not kept], "copied inputs": copied}


def frozen_convolution() -> dict:
    """The backward pass of a frozen convolution, channels last."""
    layer = Conv2d(64, 64, 3, padding=1).to(CUDA, HALF, memory_format=torch.channels_last).requires_grad_(False)
    x = torch.zeros(2, 64, 8, 8, device=CUDA, dtype=HALF).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.ones_like(x)
    out = layer(x)
    return told(count(lambda: torch.autograd.grad(out, x, gradient)))


def norm() -> dict:
    """The backward pass of a norm, with both of its parameters."""
    layer = RMSNorm2d(64).to(CUDA)
    x = torch.zeros(2, 64, 8, 8, device=CUDA, dtype=HALF).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cuda", HALF):
        out = layer(x)
    gradient = torch.ones_like(out)
    return told(count(lambda: out.backward(gradient)))


def phase(kind: str, **fields) -> dict:
    """A training step of an autoencoder, the third."""
    settings = tiny.recipe(tiny.phase("single", "all", precision="fp16", **fields)).phases[0]
    accelerator = engine.accelerator_for(settings)
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    data, validation = Mixture([images], [1], 0), images.batch([0])
    training = PhaseTraining(load(getattr(tiny, kind)()), settings, data, validation, 0, accelerator)
    batch = Batch(list(range(4)), tuple(each.pin_memory() for each in training.read(range(4))))
    for step in range(2):
        training.step(step, batch)
    return told(count(lambda: training.step(2, batch)))


def denoiser(kind: str, objective: str) -> dict:
    """A training step of a denoiser, the third, with a moving average and gradient clipping."""
    entry = ADAPTERS["diffusion"].validate_python(
        {"name": f"tiny-{kind}", "kind": kind, "depth": 2, "width": 64, "heads": 2, "recipe": "none",
         "sampler": "ddpm", "sampling_steps": 2, "guidance_scale": 1.5}
    )  # fmt: skip
    recipe = ADAPTERS["recipes"].validate_python(
        {"name": "tiny", "kind": "diffusion", "steps": 5, "batch_size": 4, "objective": objective, "precision": "fp16",
         "noise_schedule": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
         "optimiser": {"learning_rate": 1e-3}, "ema": {"decay": 0.5}, "gradient_clip": 1.0}
    )  # fmt: skip

    class Cached:
        shape, classes, captions = (4, 8, 8), 10, None

        def latents(self, latents: torch.Tensor) -> torch.Tensor:
            return latents

    training = DenoiserTraining(build_denoiser(entry, 4, 8, 2, 10), recipe, Cached(), 0, engine.accelerator_for(recipe))
    content = torch.full((4,), 500), torch.randn(4, 4, 8, 8), torch.zeros(4, dtype=torch.long), torch.randn(4, 4, 8, 8)
    batch = Batch(list(range(4)), tuple(each.pin_memory() for each in content))
    for step in range(2):
        training.step(step, batch)
    return told(count(lambda: training.step(2, batch)))


def evaluation() -> dict:
    """A batch of an evaluation, the second."""
    protocol = Config().entry("protocols", "random-features")
    one_pass, autoencoder = OnePass([protocol], CUDA), load("blur").to(CUDA)
    pixels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8).pin_memory()

    def batch() -> None:
        inputs = pixels.to(CUDA, non_blocking=True)
        one_pass.compare(reconstruct_images(autoencoder, inputs), inputs)

    batch()
    return told(count(batch))


def main() -> None:
    gan = {**tiny.GAN, "adaptive_weight": True}
    steps = {
        "DC-AE": layers_of_dc_ae,
        "frozen convolution": frozen_convolution,
        "norm": norm,
        "phase of DC-AE": lambda: phase("dc_ae", losses={"perceptual": tiny.LPIPS}),
        "phase of SD-VAE": lambda: phase(
            "sd_vae", losses={"kl": 1e-6, "perceptual": tiny.LPIPS, "gan": gan}, channels_last=True, ema={"decay": 0.9}
        ),
        "U-ViT": lambda: denoiser("u-vit", "epsilon"),
        "DiT": lambda: denoiser("dit", "epsilon-learned-range"),
        "evaluation": evaluation,
    }
    json.dump({name: step() for name, step in steps.items()}, sys.stdout)


if __name__ == "__main__":
    main()
