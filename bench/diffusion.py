# SPDX-License-Identifier: Apache-2.0
"""``make bench``: DiT-S against DiT's published design, and UViT-S on 64 against 1024 tokens, as ratios.

On a GPU also the share of a large matrix product's rate that the compiled models reach.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn

from bench.timing import Target, best_of_turns, in_a_new_process, run_comparisons
from dcae.benchmark.config import Config
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.embeddings import LabelEmbedding, TimestepEmbedding, position_table, unpatchify
from evaluation.efficiency.cost import count_macs
from evaluation.efficiency.timing import DTYPES, best_time, matrix_product_rate, step_durations

CLASSES = 1000
SECONDS, LONGEST = 8, 30  # of taking turns; the longest time where the least number of rounds takes longer
NO_SLOWER = Target(0.95)  # two measurements of the same code differ by as much
PAPER = {"training": 6295 / 352, "inference": 53774 / 2991}  # Table 3, UViT-S: DC-AE-f64 p1 over SD-VAE-f8 p2
UTILISATION = {"training": Target(0.45), "inference": Target(0.60)}  # of a matrix product's rate


# --- DiT as published, on timm's parts --------------------------------------------------------------------------------


class PublishedBlock(nn.Module):
    """adaLN-Zero block of DiT (arXiv 2212.09748, figure 3): timm's attention and MLP, modulated and gated."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.attention = Attention(width, num_heads=heads, qkv_bias=True)
        self.mlp = Mlp(width, 4 * width, act_layer=partial(nn.GELU, approximate="tanh"))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)  # 6 times [B, 1, D]
        for norm, layer, (shift, scale, gate) in zip(
            self.norms, (self.attention, self.mlp), (parts[:3], parts[3:]), strict=True
        ):
            x = x + gate * layer(norm(x) * (1 + scale) + shift)
        return x


class PublishedDiT(nn.Module):
    """The whole network, with this project's embeddings: the blocks take most of the time."""

    def __init__(self, depth: int, width: int, heads: int, channels: int, size: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.patches = PatchEmbed(size, patch_size, channels, width)
        self.register_buffer("positions", position_table(size // patch_size, width))
        self.time, self.label = TimestepEmbedding(width), LabelEmbedding(CLASSES, width)
        self.blocks = nn.ModuleList(PublishedBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, patch_size**2 * 2 * channels)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        x = self.patches(latents) + self.positions
        condition = self.time(timesteps) + self.label(labels)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        return unpatchify(self.out(self.norm(x) * (1 + scale) + shift), self.patch_size)


# --- what is timed ----------------------------------------------------------------------------------------------------


def own(name: str, channels: int, size: int, patch_size: int) -> nn.Module:
    """Build the denoiser of an entry."""
    return build_denoiser(Config().entry("diffusion", name), channels, size, patch_size, CLASSES)


def published(name: str, channels: int, size: int, patch_size: int) -> nn.Module:
    """Build the same DiT as published."""
    entry = Config().entry("diffusion", name)
    return PublishedDiT(entry.depth, entry.width, entry.heads, channels, size, patch_size)


def inputs(channels: int, size: int, batch_size: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents [B, c, h, w], timesteps [B] and labels [B]."""
    latents = torch.randn(batch_size, channels, size, size, device=device)
    return (latents, *(torch.randint(1, CLASSES, (batch_size,), device=device) for _ in range(2)))


def training_step(denoiser: nn.Module, batch: tuple[Tensor, ...], precision: str) -> Callable[[], None]:
    """Return a training step with AdamW; weights in fp32."""
    optimiser = torch.optim.AdamW(denoiser.train().parameters(), lr=1e-4)
    device = batch[0].device.type

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            prediction = denoiser(*batch)
        prediction.float().square().mean().backward()
        optimiser.step()

    return step


def inference_step(denoiser: nn.Module, batch: tuple[Tensor, ...], precision: str) -> Callable[[], Tensor]:
    """Return a forward pass with weights of the given precision."""
    latents, timesteps, labels = batch
    denoiser.eval().to(DTYPES[precision])
    return torch.inference_mode()(lambda: denoiser(latents.to(DTYPES[precision]), timesteps, labels))


STEPS = {"training": training_step, "inference": inference_step}


def prepared_step(
    build: Callable[..., nn.Module],
    name: str,
    shape: tuple[int, int, int],
    batch_size: int,
    work: str,
    device: str,
    precision: str = "fp32",
    compiled: bool = False,
) -> Callable[[], object]:
    """Return a step of one model on latents of a shape (channels, size, patch size), after warm-up."""
    channels, size, patch_size = shape
    denoiser = build(name, channels, size, patch_size).to(device)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.02)  # as the authors profile; a fresh DiT predicts zero and trains on zeros
    if compiled:
        denoiser.compile()
    step = STEPS[work](denoiser, inputs(channels, size, batch_size, device), precision)
    for _ in range(1 if device == "cpu" else 3):
        step()
    return step


def side_by_side(models: dict[str, tuple], work: str, device: str, least_rounds: int) -> dict[str, float]:
    """Return seconds per image of several models that take turns, step by step, so that all see the same machine.

    Args:
        models: name to the function that builds it, its entry, its shape and its batch size.
        work: ``training`` or ``inference``.
        device: ``cpu`` or ``cuda``.
        least_rounds: steps of each model, if they fit into the longest time.
    """
    steps = {name: prepared_step(*model, work, device) for name, model in models.items()}
    best = dict.fromkeys(models, float("inf"))
    rounds, started = 0, time.perf_counter()
    while rounds == 0 or time.perf_counter() - started < (LONGEST if rounds < least_rounds else SECONDS):
        for name, step in steps.items():
            (duration,) = step_durations(step, 1, torch.device(device))
            best[name] = min(best[name], duration / models[name][-1])
        rounds += 1
    return best


def compiled_rate(name: str, shape: tuple[int, int, int], batch_size: int, work: str) -> float:
    """Return images per second of one model on a GPU, compiled and in bf16."""
    step = prepared_step(own, name, shape, batch_size, work, "cuda", "bf16", compiled=True)
    return batch_size / best_time(step, torch.device("cuda"), SECONDS)


# --- comparisons ------------------------------------------------------------------------------------------------------


def against_published(device: str, tolerance: float) -> Iterator[bool]:
    """Compare DiT-S with the published design, eager."""
    shape, batch_size = (32, 16, 1), 4 if device == "cpu" else 64
    models = {"own": (own, "dit-s", shape, batch_size), "published": (published, "dit-s", shape, batch_size)}
    for work in STEPS:
        best = best_of_turns(
            partial(in_a_new_process, side_by_side, models, work, device, 6),
            lambda best: NO_SLOWER.met(best["published"] / best["own"]),
        )
        rates = ", ".join(f"{name} {1 / seconds:.2f}" for name, seconds in best.items())
        name = f"DiT-S, 256 tokens, {work}, images/s over the published design's ({rates})"
        yield NO_SLOWER.check(name, best["published"] / best["own"], tolerance)


def short_against_long(device: str) -> None:
    """Print the speed ratio of UViT-S on 64 and 1024 tokens beside the paper's."""
    images = 1 if device == "cpu" else 32  # of 1024 tokens; of 64 tokens as many as have the same tokens in all
    models = {"f64 p1": (own, "uvit-s", (128, 8, 1), 16 * images), "f8 p2": (own, "uvit-s", (4, 64, 2), images)}
    for work in STEPS:
        best = in_a_new_process(side_by_side, models, work, device, 2)
        rates = ", ".join(f"{name} {1 / seconds:.2f}" for name, seconds in best.items())
        ratio = best["f8 p2"] / best["f64 p1"]
        print(
            f"UViT-S, {work}, images/s on 64 tokens over 1024 ({rates}): {ratio:.1f} "
            f"(paper, on an H100: {PAPER[work]:.1f})",
            flush=True,
        )


def utilisation(tolerance: float) -> Iterator[bool]:
    """Compare the arithmetic of compiled models on a GPU in bf16 with a large matrix product."""
    product = in_a_new_process(matrix_product_rate, torch.device("cuda"), "bf16")
    shape, batch_size = (32, 16, 1), 256
    for name in ("uvit-h", "dit-xl"):
        with torch.device("meta"):
            macs = count_macs(own(name, *shape), *inputs(32, 16, 1, "meta"))
        for work, passes in (("training", 3), ("inference", 1)):
            rate = in_a_new_process(compiled_rate, name, shape, batch_size, work)
            told = f"{name}, 256 tokens, {work}, bf16, compiled, batch {batch_size}, {rate:.0f} images/s"
            share = rate * macs * passes / product
            yield UTILISATION[work].check(f"{told}, share of a matrix product's rate", share, tolerance)


def comparisons(device: str, tolerance: float) -> Iterator[bool]:
    """Compare speeds of diffusion models."""
    yield from against_published(device, tolerance)
    short_against_long(device)
    if device == "cuda":
        yield from utilisation(tolerance)


if __name__ == "__main__":
    sys.exit(run_comparisons(__doc__, comparisons))
