# SPDX-License-Identifier: Apache-2.0
"""Speed of the whole pipeline: from a class or a text to an image, and from images to an update.

Generating takes all sampling steps, guidance (two conditions a step), the decoder and, for captions, the text encoder,
which embeds every caption anew, and the empty one once for all. Training encodes its images in every step, and has the
objective of the model's recipe; embedded captions are cached.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcae.autoencoders.contract import denormalise, normalise
from dcae.benchmark.config import Config
from dcae.benchmark.entries import AutoencoderFields, DiffusionRecipe, EfficiencyProtocol, TextEncoder
from dcae.benchmark.record import Value
from dcae.diffusion.captions.dataset import Captions
from dcae.diffusion.objectives import diffusion_losses, draw_training_inputs
from dcae.diffusion.sampling import sample
from evaluation.efficiency.autoencoder import batch_size_for, for_inference
from evaluation.efficiency.backends import LARGEST_DIFFERENCE, check_outputs, compile_blocks
from evaluation.efficiency.cost import count_macs, count_parameters
from evaluation.efficiency.denoiser import DenoiserShape
from evaluation.efficiency.profile import Profile
from evaluation.efficiency.text_encoder import Prompts, RandomTextEncoder
from evaluation.efficiency.timing import DTYPES, Observe, milliseconds, step_durations, summary, throughput
from evaluation.efficiency.training import Training, autocast

SEED = 0
GENERATION = (
    "generated_images_per_second", "generation_latency_ms", "decoding_share", "passes_per_image",
    "gmacs_per_generated_image",
)  # fmt: skip
TRAINING = ("training_with_encoding_images_per_second", "encoding_share")
VALUES = (*GENERATION, *TRAINING)
FEWEST_SAMPLING_STEPS = 3  # of every sampler, to warm up


class Pipeline:
    """A denoiser between the two halves of an autoencoder, all with random weights, in the protocol's precision.

    Args:
        text_encoder: where the denoiser is conditioned on captions.
    """

    def __init__(
        self,
        shape: DenoiserShape,
        autoencoder: nn.Module,
        recipe: DiffusionRecipe,
        protocol: EfficiencyProtocol,
        device: torch.device,
        text_encoder: RandomTextEncoder | None = None,
    ):
        self.shape, self.autoencoder, self.recipe, self.protocol = shape, autoencoder, recipe, protocol
        self.device, self.text_encoder = device, text_encoder
        self.empty_caption = text_encoder(1) if text_encoder else None
        if autoencoder.latent_scale is None:
            autoencoder.latent_scale = 1.0  # measured by a training, of which there was none
        self.image_side = shape.latent_size * autoencoder.spatial_compression
        self.latent_shape = (shape.latent_channels, shape.latent_size, shape.latent_size)
        self.classes = shape.entry.classes(shape.classes)

    def denoiser(self, compiled: bool) -> nn.Module:
        """Build a denoiser in evaluation mode, its weights in the protocol's precision.

        Raises:
            UnequalOutputs: compiled, it has other outputs than eager.
        """
        dtype = DTYPES[self.protocol.precision]
        module = self.shape.build(self.device, self.protocol).eval().requires_grad_(False).to(dtype)
        if compiled:
            inputs = self.shape.inputs(2 * self.protocol.latency_batch_size, self.device)  # as guidance has it
            with torch.inference_mode(), autocast(self.protocol, self.device):
                expected = module(*inputs)
                compile_blocks(module.denoiser)
                check_outputs(module(*inputs), expected, "compile", LARGEST_DIFFERENCE[dtype])
        return module.denoiser

    def latents(self, denoiser: nn.Module, batch_size: int, steps: int | None = None) -> Tensor:
        """Sample latents [B, c, h, w] with guidance; ``steps``: instead of the model's own number."""
        entry = self.shape.entry
        prompts = Prompts(self.text_encoder, batch_size, self.empty_caption) if self.text_encoder else None
        with torch.inference_mode(), autocast(self.protocol, self.device):
            return sample(
                denoiser,
                entry.model_copy(update={"sampling_steps": steps}) if steps else entry,
                self.recipe.noise_schedule,
                range(batch_size),
                self.latent_shape,
                SEED,
                entry.guidance_scale,
                self.shape.classes,
                prompts,
            )[0]

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode images [B, 3, H, W], as many at a time as the protocol's pixels allow."""
        latents = denormalise(self.autoencoder, latents).to(DTYPES[self.protocol.precision])
        parts = latents.split(batch_size_for(self.image_side, self.protocol))
        return torch.cat([self.autoencoder.decode(part) for part in parts])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode to normalised latents [B, c, h, w], as many images at a time as the protocol's pixels allow."""
        images = images.to(DTYPES[self.protocol.precision])
        parts = images.split(batch_size_for(self.image_side, self.protocol))
        latents = torch.cat([self.autoencoder.encode(part) for part in parts])
        return normalise(self.autoencoder, latents.float())


class TrainingWithEncoding(Training):
    """Training from images: encoder, noise and timesteps, the objective of the recipe, backward and AdamW."""

    def __init__(self, pipeline: Pipeline, batch_size: int):
        module = pipeline.shape.build(pipeline.device, pipeline.protocol)
        _, _, *condition = pipeline.shape.inputs(batch_size, pipeline.device)
        compiled = pipeline.protocol.training_backend == "compile"
        side = pipeline.image_side
        images = torch.rand(batch_size, 3, side, side, device=pipeline.device) * 2 - 1
        self.pipeline, self.condition = pipeline, condition
        self.random = torch.Generator(pipeline.device)
        self.begin_again()
        super().__init__(module, [images], pipeline.protocol, compiled)

    def begin_again(self) -> None:
        self.random.manual_seed(SEED)

    def loss(self) -> Tensor:
        pipeline, denoiser = self.pipeline, self.module.denoiser
        latents = pipeline.encode(self.inputs[0])
        labels = torch.zeros(len(latents), dtype=torch.long, device=self.device)
        labels, timesteps, noise = draw_training_inputs(
            labels, pipeline.latent_shape, denoiser.null_label, pipeline.recipe, self.random
        )
        condition = Captions(*self.condition) if len(self.condition) > 1 else labels
        with autocast(self.protocol, self.device):
            losses = diffusion_losses(denoiser, latents, condition, timesteps, noise, pipeline.recipe)
        return sum(each.mean() for each in losses.values())


@contextmanager
def counted_rows(denoiser: nn.Module):
    """Count the latents that pass through a denoiser: conditions of guidance and steps of the sampler."""
    counts: list[int] = []
    hook = denoiser.register_forward_pre_hook(lambda _, arguments: counts.append(len(arguments[0])))
    try:
        yield counts
    finally:
        hook.remove()


def profile_end_to_end(
    shape: DenoiserShape,
    autoencoder: AutoencoderFields,
    recipe: DiffusionRecipe,
    protocol: EfficiencyProtocol,
    device: str | torch.device = "cpu",
    config: Config | None = None,
    text_encoder: TextEncoder | None = None,
) -> Profile:
    """Measure generation from class or text to image, and training from image to update; random weights.

    Args:
        shape: the diffusion model and its latents; its entry has sampler, steps and guidance.
        autoencoder: its entry, without released weights.
        recipe: of the diffusion model; its objective and noise schedule.
        protocol: batch sizes (numbers), precision, backends and repeats.
        device: ``cpu`` or ``cuda``.
        config: where an entry that the autoencoder is built on is looked up.
        text_encoder: of a model on captions, with an architecture instead of released weights. Its time is in that of
            generation, which the remarks say; its parameters and multiply-accumulates are in no value.

    Returns:
        ``generated_images_per_second``, ``generation_latency_ms``, ``decoding_share`` (of the time),
        ``passes_per_image`` (of the denoiser; two per step with guidance), ``gmacs_per_generated_image``,
        ``training_with_encoding_images_per_second``, ``encoding_share``, ``parameters`` of both networks together.
    """
    device = torch.device(device)
    profile = Profile()
    profile.begin(device, protocol)
    encoder = RandomTextEncoder(text_encoder, DTYPES[protocol.precision], device) if text_encoder else None
    if encoder:
        profile.remarks.append(
            f"text encoder of {count_parameters(encoder.model) / 1e9:.2g} billion parameters: its time is in that of "
            "generation, its size and GMACs are in no value; training has cached embeddings"
        )
    model = for_inference(autoencoder, protocol, device, config)
    pipeline = Pipeline(shape, model, recipe, protocol, device, encoder)
    meta = torch.device("meta")
    on_meta = shape.build(meta, protocol)
    parameters = count_parameters(on_meta) + count_parameters(model)
    profile.values["parameters"] = Value(value=parameters, n=1)
    denoiser_gmacs = count_macs(on_meta, *shape.inputs(1, meta)) / 1e9
    decoder = for_inference(autoencoder, protocol, meta, config)
    latents = torch.empty(1, *pipeline.latent_shape, dtype=DTYPES[protocol.precision], device=meta)
    decoder_gmacs = count_macs(decoder.decode, latents) / 1e9

    def generation() -> dict[str, Value]:
        denoiser = pipeline.denoiser(compiled=protocol.inference_backend == "compile")
        sizes = {"generation": protocol.inference_batch_size, "latency": protocol.latency_batch_size}
        durations = {}
        for name, size in sizes.items():
            profile.conditions[f"{name}_batch_size"] = size
            pipeline.decode(pipeline.latents(denoiser, size, FEWEST_SAMPLING_STEPS))
            with counted_rows(denoiser) as rows:
                step = _generate(pipeline, denoiser, size)
                durations[name] = _repeated(step, protocol, device, profile.observer(name, device))
        passes = sum(rows) / sizes["latency"] / protocol.repeats
        latents = torch.randn(sizes["generation"], *pipeline.latent_shape, device=device)
        decoding = _repeated(lambda: pipeline.decode(latents), protocol, device)
        return {
            "generated_images_per_second": throughput(durations["generation"], sizes["generation"]),
            "generation_latency_ms": milliseconds(durations["latency"]),
            "decoding_share": Value(value=decoding.value / durations["generation"].value, n=decoding.n),
            "passes_per_image": Value(value=passes, n=1),
            "gmacs_per_generated_image": Value(value=passes * denoiser_gmacs + decoder_gmacs, n=1, unit="GMAC"),
        }

    def training() -> dict[str, Value]:
        size = profile.conditions["training_batch_size"] = protocol.training_batch_size
        step = TrainingWithEncoding(pipeline, size)
        step()
        duration = _repeated(step, protocol, device, profile.observer("training", device))
        encoding = _repeated(lambda: pipeline.encode(step.inputs[0]), protocol, device)
        return {
            "training_with_encoding_images_per_second": throughput(duration, size),
            "encoding_share": Value(value=encoding.value / duration.value, n=encoding.n),
        }

    profile.attempt(GENERATION, generation, device)
    profile.attempt(TRAINING, training, device)
    return profile.end(device)


def _generate(pipeline: Pipeline, denoiser: nn.Module, batch_size: int) -> Callable[[], Tensor]:
    return lambda: pipeline.decode(pipeline.latents(denoiser, batch_size))


def _repeated(
    step: Callable[[], object], protocol: EfficiencyProtocol, device: torch.device, observe: Observe | None = None
) -> Value:
    """Time a warmed-up long step, once for each of the protocol's repeats."""
    return summary([step_durations(step, 1, device, observe) for _ in range(protocol.repeats)])
