# SPDX-License-Identifier: Apache-2.0
"""Counts what a job needs by shapes alone: parameters, multiply-accumulates, and memory over the batch size.

Memory is that of tensors without values on the CPU (``evaluation.efficiency.memory``). It agrees with the paper's: of
DiT-XL on 1024 tokens at batch 256 it counts 54.9 GiB, where 56.2 is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcae.autoencoders.loading import load
from dcae.benchmark.entries import AutoencoderFields, EfficiencyProtocol, Phase
from dcae.training.gan import PatchDiscriminator
from dcae.training.gradient_checkpointing import set_gradient_checkpointing
from dcae.training.layers import freeze_all_but, last_layer
from dcae.training.losses import discriminator_hinge_loss, generator_hinge_loss
from dcae.training.perceptual import perceptual_network
from evaluation.efficiency.autoencoder import Coder, bytes_of, random_input
from evaluation.efficiency.cost import count_macs, count_parameters
from evaluation.efficiency.denoiser import DenoiserShape
from evaluation.efficiency.memory import GIB, fake_tensors, materialise, meter, peak_of
from evaluation.efficiency.training import Training, autocast

CPU, META = torch.device("cpu"), torch.device("meta")
# Large enough for the activations to be the fullest part of a step. The count takes the same time at any batch size.
BATCH = 64
GRADIENT_AND_ADAM = 12  # bytes for each trained float32 parameter


@dataclass(frozen=True)
class Counted:
    """Parameters, 1e9 multiply-accumulates per image, and GiB of memory: at any batch size, and for each image."""

    parameters: int
    gmacs: float
    fixed_gib: float
    image_gib: float


class TrainingStep(Protocol):
    """The forward and backward pass of a training step, and what its optimisers update."""

    parameter_groups: list[dict[str, Any]]

    def forward_backward(self) -> None: ...


def _protocol(precision: str, checkpointed: bool = False) -> EfficiencyProtocol:
    sizes = {"training_batch_size": 1, "inference_batch_size": 1, "memory_batch_size": 1}
    return EfficiencyProtocol(
        name="count", kind="efficiency", precision=precision, activation_checkpointing=checkpointed, **sizes,
        warmup_steps=1, seconds=1,
    )  # fmt: skip


def _training_memory(make: Callable[[], TrainingStep], modules: Iterable[nn.Module], batch: int) -> tuple[float, float]:
    """Return the GiB at any batch size, and those of each image, from one forward and backward pass on ``batch``.

    What the pass holds beside the weights counts for the images, also gradients at its end and weights in 16 bits.
    """
    with fake_tensors(CPU), meter(CPU) as memory:
        step = make()
        step.forward_backward()
        peak = memory.peak
    trained = sum(each.numel() for group in step.parameter_groups for each in group["params"])
    weights = sum(map(bytes_of, modules))
    return (weights + GRADIENT_AND_ADAM * trained) / GIB, (peak - weights) / batch / GIB


def count_denoiser(shape: DenoiserShape, checkpointed: bool) -> Counted:
    """Count a training in 16 bits, AdamW included; multiply-accumulates are those of one forward pass."""
    protocol = _protocol("bf16", checkpointed)
    model = shape.build(META, protocol)

    def step() -> DenoiserStep:
        return DenoiserStep(materialise(shape.build(META, protocol), CPU), shape.inputs(BATCH, CPU), protocol, False)

    gmacs = count_macs(model, *shape.inputs(1, META)) / 1e9
    return Counted(count_parameters(model), gmacs, *_training_memory(step, [model], BATCH))


class DenoiserStep(Training):
    """A step of a denoiser's training."""

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.optimiser.param_groups


def count_coder(entry: AutoencoderFields, resolution: int, method: str) -> Counted:
    """Count ``encode`` or ``decode`` with float32 weights."""
    module = Coder(load(entry.model_copy(update={"tiling": None, "pretrained": None}), device="meta"), method)
    gmacs = count_macs(module, random_input(method, entry, resolution, 1, device=META)) / 1e9
    with fake_tensors(CPU):
        module = materialise(module, CPU)
        inputs = random_input(method, entry, resolution, 1)
        image = peak_of(lambda: lambda: torch.no_grad()(module)(inputs), CPU)
    return Counted(count_parameters(module), gmacs, bytes_of(module) / GIB, image / GIB)


class PhaseStep:
    """A step of an autoencoder's phase: reconstruction, LPIPS and KL losses, the GAN, and both optimisers."""

    def __init__(self, modules: dict[str, nn.Module], images: Tensor, phase: Phase):
        self.modules, self.images, self.phase = modules, images, phase
        self.protocol = _protocol("fp32" if phase.precision == "fp32" else "bf16")
        self.optimisers = [
            torch.optim.AdamW([each for each in modules[name].parameters() if each.requires_grad])
            for name in ("autoencoder", "discriminator")
            if name in modules
        ]

    def forward_backward(self) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        autoencoder, losses = self.modules["autoencoder"], self.phase.losses
        loss = self.images.new_zeros(())
        with autocast(self.protocol, CPU):
            if losses.kl is None:
                latents = autoencoder.encode(self.images)
            else:
                posterior = autoencoder.posterior(self.images)
                latents, loss = posterior.mean + posterior.std, posterior.kl().mean()
            outputs = autoencoder.decode(latents)
        outputs = outputs.float()
        loss = loss + (outputs - self.images).abs().mean()
        if "perceptual" in self.modules:
            loss = loss + self.modules["perceptual"](self.images, outputs).mean()
        discriminator = self.modules.get("discriminator")
        if discriminator:
            discriminator.requires_grad_(False)
            with autocast(self.protocol, CPU):
                (logits,) = discriminator(outputs)
            discriminator.requires_grad_(True)
            generated = generator_hinge_loss(logits.float())
            if losses.gan.adaptive_weight:
                for each in (loss, generated):
                    torch.autograd.grad(each, last_layer(autoencoder), retain_graph=True)
            loss = loss + generated
        loss.backward()
        if discriminator:
            with autocast(self.protocol, CPU):
                real, fake = discriminator(self.images, outputs.detach())
            discriminator_hinge_loss(real.float(), fake.float()).backward()

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]


def count_phase(entry: AutoencoderFields, phase: Phase) -> Counted:
    """Count a step of a phase; multiply-accumulates are those of the whole step, with recomputation."""
    shapes = {"autoencoder": load(entry.model_copy(update={"tiling": None, "pretrained": None}), device="meta")}
    freeze_all_but(shapes["autoencoder"], phase.trains, phase.extra_blocks)
    set_gradient_checkpointing(shapes["autoencoder"], phase.gradient_checkpointing)
    if phase.losses.perceptual:
        weights = phase.losses.perceptual.lpips.model_copy(update={"weights": "random"})
        shapes["perceptual"] = perceptual_network(weights).to(META)
    if phase.losses.gan:
        with META:
            shapes["discriminator"] = PatchDiscriminator(phase.losses.gan.layers, phase.losses.gan.width)

    def step(size: int) -> PhaseStep:
        modules = {name: materialise(module, CPU) for name, module in shapes.items()}
        modules["autoencoder"].train()
        return PhaseStep(modules, random_input("encode", entry, phase.resolution, size), phase)

    with FlopCounterMode(display=False) as counter:
        memory = _training_memory(lambda: step(BATCH), shapes.values(), BATCH)
    gmacs = counter.get_total_flops() / 2e9 / BATCH
    return Counted(count_parameters(shapes["autoencoder"]), gmacs, *memory)
