# SPDX-License-Identifier: Apache-2.0
"""The phases of an autoencoder's training."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch._dynamo.utils import counters

from dcae.autoencoders.contract import decoder_head, middle_layers
from dcae.autoencoders.loading import load
from dcae.benchmark import Config, ConfigError
from dcae.data.loading import open_dataset
from dcae.data.mixture import Mixture
from dcae.training import autoencoder as autoencoder_module
from dcae.training.autoencoder import PhaseTraining
from dcae.training.engine import Validation
from dcae.training.layers import evaluating, freeze_all_but, last_layer
from dcae.training.state import read_checkpoint
from dcae.training.stopping import TrainingDiverged

FULL, ADAPTATION, REFINEMENT = (
    "low-resolution-full", "high-resolution-latent-adaptation", "low-resolution-local-refinement"
)  # fmt: skip


@pytest.fixture(scope="module")
def chain(tiny, tmp_path_factory) -> dict[str, Path]:
    """Folders of a DC-AE after each of the three phases."""
    folder, start, recipe = tmp_path_factory.mktemp("chain"), None, tiny.recipe(*tiny.THREE_PHASES)
    folders = {}
    for name in (FULL, ADAPTATION, REFINEMENT):
        start = folders[name] = tiny.train(folder, tiny.dc_ae(), recipe, name, start)
    return folders


def names_within(autoencoder, layers) -> set[str]:
    """Names of the parameters of some layers."""
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name for name, parameter in autoencoder.named_parameters() if id(parameter) in inside}


@pytest.mark.parametrize(
    ("before", "after", "layers"), [(FULL, ADAPTATION, middle_layers), (ADAPTATION, REFINEMENT, decoder_head)]
)
def test_a_phase_changes_all_of_its_layers_and_no_other_bit(tiny, chain, before, after, layers):
    entry = tiny.dc_ae()
    old, new = (load(entry, weights=chain[name]) for name in (before, after))
    assert any("running_mean" in name for name in old.state_dict())
    assert any("num_batches_tracked" in name for name in old.state_dict())
    changed = {name for name, value in old.state_dict().items() if not torch.equal(value, new.state_dict()[name])}
    assert changed == names_within(old, layers(old))


def test_the_first_phase_changes_every_parameter_and_the_statistics_of_batchnorm(tiny, chain):
    old, new = load(tiny.dc_ae(), seed=0), load(tiny.dc_ae(), weights=chain[FULL])
    same = {name for name, value in old.state_dict().items() if torch.equal(value, new.state_dict()[name])}
    assert same == set()


def test_latents_are_the_same_bits_after_the_last_phase(tiny, chain):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, after = (load(tiny.dc_ae(), weights=chain[name]) for name in (ADAPTATION, REFINEMENT))
    assert torch.equal(before.encode(images), after.encode(images))
    assert before.latent_scale == after.latent_scale
    assert not torch.equal(before.decode(before.encode(images)), after.decode(after.encode(images)))


def test_the_scale_brings_latents_of_training_images_to_unit_rms(tiny, chain):
    for name, resolution in ((FULL, 32), (ADAPTATION, 64)):
        autoencoder = load(tiny.dc_ae(), weights=chain[name])
        pixels = open_dataset(tiny.DATASETS["scenes"], "train", resolution).batch(range(24))
        latents = autoencoder.encode(pixels.float() / 127.5 - 1) * autoencoder.latent_scale
        # The scale comes from 256 draws, of which the 24 images are 10 or 11 each.
        assert latents.square().mean().sqrt().item() == pytest.approx(1, abs=0.01)
    assert load(tiny.dc_ae(), weights=chain[FULL]).latent_scale != autoencoder.latent_scale


def test_a_scale_given_in_the_entry_stays(tiny, tmp_path):
    recipe = tiny.recipe(tiny.phase(FULL, "all", steps=1))
    folder = tiny.train(tmp_path, tiny.dc_ae(latent_scale=0.25), recipe, FULL)
    assert load(tiny.dc_ae(), weights=folder).latent_scale == 0.25


def test_training_lowers_the_loss_and_logs_every_term(chain):
    lines = [json.loads(line) for line in (chain[REFINEMENT] / "training_log.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines if "loss" in line] == [
        {"step", "loss", "l1", "lpips", "generator", "discriminator", "learning_rate", "images_per_second"}
    ] * 4
    assert [line["learning_rate"] for line in lines if "loss" in line] == [1e-3, 2e-3, 2e-3, 2e-3]
    validations = [line for line in lines if "validation_psnr" in line]
    terms = {"step", "validation_psnr", "validation_loss", "validation_l1", "validation_lpips"}
    assert [set(line) for line in validations] == [terms] * 4
    assert all(0 < line["validation_psnr"] < 60 for line in validations)
    first = [json.loads(line) for line in (chain[FULL] / "training_log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in first if "loss" in line]
    assert losses[-1] < losses[0]


def test_the_scale_is_measured_on_so_many_images(tiny, tmp_path):
    """The first ones of the mixture; 6 images are a batch of 4 and one of 2."""
    recipe = tiny.recipe(tiny.phase(FULL, "all", steps=1)).model_copy(update={"latent_scale_images": 6})
    autoencoder = load(tiny.dc_ae(), weights=tiny.train(tmp_path, tiny.dc_ae(), recipe, FULL))
    data = Mixture([open_dataset(tiny.DATASETS["scenes"], "train", 32)], [1], seed=0)
    latents = autoencoder.encode(data.batch(range(6)).float() / 127.5 - 1)
    assert autoencoder.latent_scale == pytest.approx(1 / latents.square().mean().sqrt().item(), rel=1e-5)  # fp32 sums


@pytest.mark.parametrize(("trains", "layers"), [("middle", middle_layers), ("decoder-head", decoder_head)])
def test_extra_blocks_are_trained_too(tiny, chain, tmp_path, trains, layers):
    recipe = tiny.recipe(tiny.phase("more", trains, steps=1, extra_blocks=2))
    old = load(tiny.dc_ae(), weights=chain[FULL])
    new = tiny.weights(tiny.train(tmp_path, tiny.dc_ae(), recipe, "more", chain[FULL]))
    changed = {name for name, value in old.state_dict().items() if not torch.equal(value, new[name])}
    assert changed == names_within(old, layers(old, 2))
    assert changed > names_within(old, layers(old, 1)) > names_within(old, layers(old))


def test_more_extra_blocks_than_there_are_is_an_error(tiny, chain, tmp_path):
    recipe = tiny.recipe(tiny.phase("more", "decoder-head", extra_blocks=99))
    with pytest.raises(ValueError, match="99"):
        tiny.train(tmp_path, tiny.dc_ae(), recipe, "more", chain[FULL])


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", ["dc-ae", "sd-vae"])
def test_a_stopped_training_goes_on_to_the_same_bits(tiny, tmp_path, monkeypatch, kind):
    """With everything that draws or remembers: posterior noise, two optimisers, BatchNorm, an average; and in parts."""
    gan = {**tiny.GAN, "start_step": 2, "adaptive_weight": True}
    losses = {"gan": gan, **({"kl": 1e-6} if kind == "sd-vae" else {})}
    options = {"gradient_accumulation": 2, "gradient_checkpointing": True, "gradient_clip": 1.0}
    average = {"decay": 0.9, "ramp_steps": 2}
    recipe = tiny.recipe(tiny.phase("single", "all", steps=5, losses=losses, ema=average, **options))
    entry = tiny.sd_vae() if kind == "sd-vae" else tiny.dc_ae()
    undisturbed = tiny.weights(tiny.train(tmp_path / "undisturbed", entry, recipe, "single"))

    step = PhaseTraining.step

    def stopping_step(self, number, batch):
        if number == 3:
            raise Stop
        return step(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(PhaseTraining, "step", stopping_step)
        tiny.train(tmp_path / "stopped", entry, recipe, "single")
    resumed = tiny.weights(tiny.train(tmp_path / "stopped", entry, recipe, "single"))
    assert [name for name in undisturbed if not torch.equal(undisturbed[name], resumed[name])] == []


@pytest.mark.parametrize(("trains", "recorded"), [("all", True), ("middle", False), ("decoder-head", False)])
def test_layers_before_the_first_trained_one_record_nothing_for_a_backward_pass(tiny, trains, recorded):
    autoencoder = load(tiny.dc_ae())
    freeze_all_but(autoencoder, trains)
    images = torch.zeros(1, 3, 32, 32)
    first_block = autoencoder.encoder.blocks()[0]
    seen = []
    first_block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.requires_grad))
    latents = autoencoder.encode(images)
    assert seen == [recorded]
    assert latents.requires_grad == (trains != "decoder-head")
    assert autoencoder.decode(latents).requires_grad
    assert {part.training for part in autoencoder.modules()} == {trains == "all"}


def test_evaluating_leaves_no_trace(tiny):
    autoencoder = load(tiny.dc_ae())
    autoencoder.train()
    autoencoder.encoder.eval()
    with evaluating(autoencoder):
        assert not autoencoder.decoder.training
        assert not autoencoder.decode(autoencoder.encode(torch.zeros(1, 3, 32, 32))).requires_grad
    assert autoencoder.decoder.training
    assert not autoencoder.encoder.training


def phase_training(tiny, entry, accelerator=None, **fields) -> PhaseTraining:
    phase = tiny.recipe(tiny.phase("single", "all", **fields)).phases[0]
    data = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    accelerator = accelerator or Accelerator(cpu=True)
    return PhaseTraining(load(entry), phase, Mixture([data], [1], 0), data.batch(range(2)), 0, accelerator)


def test_the_loss_is_the_weighted_sum_of_its_terms(tiny):
    losses = {"l1": 2.0, "mse": 3.0, "kl": 0.5, "perceptual": tiny.LPIPS}
    training = phase_training(tiny, tiny.sd_vae(), losses=losses)
    batch = next(training.batches(0))
    terms = training.step(0, batch)
    expected = 2 * terms["l1"] + 3 * terms["mse"] + 0.1 * terms["lpips"] + 0.5 * terms["kl"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mean_squared_error_replaces_l1(tiny):
    training = phase_training(tiny, tiny.dc_ae(), losses={"l1": 0.0, "mse": 2.0})
    images = training._images(next(training.batches(0)).content[0])
    loss, terms = training._reconstruction_loss(images, torch.zeros_like(images), None)
    assert loss.item() == pytest.approx(2 * images.square().mean().item(), rel=1e-5)
    assert set(terms) == {"l1", "mse"}


def test_the_adaptive_weight_balances_gradients_at_the_layer_that_makes_the_image(tiny):
    gan = {**tiny.GAN, "weight": 0.5, "adaptive_weight": True}
    training = phase_training(tiny, tiny.dc_ae(), losses={"gan": gan})
    images = training._images(next(training.batches(0)).content[0])
    reconstructions, _ = training.reconstruct(images)
    loss, _ = training._reconstruction_loss(images, reconstructions, None)
    weighted, _ = training.adversary.generator_loss(reconstructions, loss, 0)
    layer = last_layer(training.autoencoder)
    assert layer.shape[0] in (3, 12)
    norms = [torch.autograd.grad(each, layer, retain_graph=True)[0].norm().item() for each in (loss, weighted)]
    assert norms[1] == pytest.approx(0.5 * norms[0], rel=0.05)  # 1e-4 is added to the norm that divides


def test_the_adaptive_weight_goes_backward_through_a_compiled_graph_twice(tiny, monkeypatch):
    """Steps before the GAN starts compile a graph that would give its buffers away in its first pass."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager_decomp_partition"))
    torch._dynamo.reset()
    gan = {**tiny.GAN, "weight": 0.5, "start_step": 1, "adaptive_weight": True}
    blocks = ["ResBlock", "ResBlock"]
    stages = {
        "widths": [8, 8], "encoder_depths": [0, 1], "decoder_depths": [0, 1], "encoder_blocks": blocks,
        "decoder_blocks": blocks, "decoder_norms": ["RMSNorm", "RMSNorm"],
    }  # fmt: skip
    entry = tiny.dc_ae(spatial_compression=2, stages=stages)
    training = phase_training(tiny, entry, losses={"gan": gan}, compile=True)
    batches = training.batches(0)
    for step in range(2):
        assert training.step(step, next(batches))["loss"].isfinite()


def test_the_autoencoder_does_not_train_the_discriminator_and_the_other_way_round(tiny):
    training = phase_training(tiny, tiny.dc_ae(), losses={"gan": {**tiny.GAN, "start_step": 1}})
    batches = training.batches(0)
    discriminator = training.adversary.discriminator
    before = [parameter.clone() for parameter in discriminator.parameters()]
    terms = training.step(0, next(batches))
    assert terms["generator"] == terms["discriminator"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
    training.step(1, next(batches))
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert not torch.equal(before[0], next(discriminator.parameters()))


@pytest.mark.parametrize("kind", ["dc-ae", "sd-vae"])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(tiny, kind):
    """Where images of a batch do not meet: without BatchNorm."""
    entry = tiny.sd_vae() if kind == "sd-vae" else tiny.dc_ae(decoder_norm="RMSNorm")
    losses = {"perceptual": tiny.LPIPS, **({"kl": 1e-3} if kind == "sd-vae" else {})}
    found = []
    for parts in (1, 2, 4):
        training = phase_training(tiny, entry, losses=losses, gradient_accumulation=parts)
        terms = training.step(0, next(training.batches(0)))
        found.append((terms, {name: p.grad for name, p in training.autoencoder.named_parameters()}))
    for terms, gradients in found[1:]:
        # fp32's rounding, of sums in another order; the largest gradients are about 1
        torch.testing.assert_close(terms, found[0][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients, found[0][1], rtol=1e-4, atol=1e-6)


def test_the_discriminator_sees_every_part(tiny):
    training = phase_training(tiny, tiny.dc_ae(), losses={"gan": tiny.GAN}, gradient_accumulation=2)
    seen = []
    discriminator = training.adversary.discriminator
    discriminator.register_forward_hook(lambda _module, batches, _logits: seen.append([len(each) for each in batches]))
    training.step(0, next(training.batches(0)))
    assert seen == [[2], [2], [2, 2], [2, 2]]  # reconstructions alone for the autoencoder, then beside the real images


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps one precision for a whole process; this lets a test have another one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bf16_computes_coarsely_and_keeps_exact_weights(tiny, fresh_accelerator):
    exact = phase_training(tiny, tiny.dc_ae())
    images = exact._images(next(exact.batches(0)).content[0])
    expected, _ = exact.reconstruct(images)
    AcceleratorState._reset_state(reset_partial_state=True)
    coarse = phase_training(tiny, tiny.dc_ae(), accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    reconstructions, _ = coarse.reconstruct(images)
    assert reconstructions.dtype == torch.float32
    difference = ((reconstructions - expected).norm() / expected.norm()).item()
    assert 1e-4 < difference < 0.1  # a number of bf16 is right to 0.4 %, and there are a dozen layers
    coarse.step(0, next(coarse.batches(0)))
    assert {parameter.dtype for parameter in coarse.autoencoder.parameters()} == {torch.float32}


def test_validation_changes_nothing(tiny):
    training = phase_training(tiny, tiny.dc_ae())
    before = {name: value.clone() for name, value in training.autoencoder.state_dict().items()}
    first = training.validate().numbers
    assert training.validate().numbers == first
    assert all(torch.equal(before[name], value) for name, value in training.autoencoder.state_dict().items())
    assert training.autoencoder.training


@pytest.mark.parametrize(
    ("kind", "asked", "layer_is_channels_last"),
    [("sd_vae", False, False), ("sd_vae", True, True), ("dc_ae", False, True)],
)
def test_the_layout_is_that_of_the_recipe_or_else_the_autoencoders_own(tiny, kind, asked, layer_is_channels_last):
    training = phase_training(tiny, getattr(tiny, kind)(), channels_last=asked)
    images = training._images(next(training.batches(0)).content[0])
    assert images.is_contiguous(memory_format=torch.channels_last) == asked
    assert last_layer(training.autoencoder).is_contiguous(memory_format=torch.channels_last) == layer_is_channels_last


def test_the_networks_of_the_losses_are_channels_last_and_so_are_the_trainings_of_sd_vae(tiny):
    training = phase_training(tiny, tiny.dc_ae(), losses={"perceptual": tiny.LPIPS})
    weights = [layer.weight for layer in training.perceptual.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    for name in ("sd-vae-single-phase", "sd-vae-single-phase-mixture"):
        assert all(phase.channels_last for phase in Config().entry("recipes", name).phases)


def test_posterior_noise_is_read_with_the_images_and_depends_on_the_sample_alone(tiny):
    training = phase_training(tiny, tiny.sd_vae(), losses={"kl": 0.5})
    (_, both), (_, second) = training.read(range(2)), training.read(range(1, 2))
    assert torch.equal(both[1:], second)
    assert both.shape == (2, 2, 8, 8)
    assert len(phase_training(tiny, tiny.sd_vae()).read(range(2))) == 1


def test_images_reach_the_network_in_its_range(tiny):
    training = phase_training(tiny, tiny.dc_ae())
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert training._images(pixels).flatten().tolist() == pytest.approx([-1, -0.6, 1])


def test_a_compiled_training_is_one_graph_that_computes_the_same(tiny, tmp_path, monkeypatch):
    """Captured forward and backward as for any backend; generating C++ of it would take a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    weights = []
    for compiled in (False, True):
        recipe = tiny.recipe(tiny.phase("single", "all", steps=2, compile=compiled))
        weights.append(tiny.weights(tiny.train(tmp_path / str(compiled), tiny.dc_ae(), recipe, "single")))
    assert counters["stats"]["unique_graphs"] == 1  # looks at validation images between steps included
    assert dict(counters["graph_break"]) == {}
    # The same kernels in the same order, as of torch 2.15; AdamW blows up what rounding another order brings.
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-4)


def test_compiling_and_recomputing_exclude_each_other(tiny):
    with pytest.raises(ValueError, match="compile and gradient_checkpointing exclude each other"):
        tiny.recipe(tiny.phase("single", "all", compile=True, gradient_checkpointing=True))


def test_fp16_without_a_gpu_is_an_error(tiny, tmp_path, monkeypatch):
    """Accelerate would compute in fp32 and say nothing."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    recipe = tiny.recipe(tiny.phase("single", "all", precision="fp16"))
    with pytest.raises(ConfigError, match=r"precision is fp16 in the recipe, which needs a GPU.*bf16 or fp32"):
        tiny.train(tmp_path, tiny.dc_ae(), recipe, "single")


def test_a_training_takes_images_whole(tiny, tmp_path):
    entry = tiny.dc_ae(tiling={"tile": 16, "overlap": 8})
    recipe = tiny.recipe(tiny.phase("single", "all", steps=1))
    tiled, whole = (
        tiny.weights(tiny.train(tmp_path / each.name, each, recipe, "single"))
        for each in (entry, entry.model_copy(update={"tiling": None, "name": "whole"}))
    )
    assert [name for name in whole if not torch.equal(tiled[name], whole[name])] == []


def test_a_loss_that_is_not_finite_names_entry_phase_and_step(tiny, tmp_path, monkeypatch):
    kl_per_value, calls = autoencoder_module.kl_per_value, []

    def poisoned(kl, images):
        calls.append(kl)
        return kl_per_value(kl, images) * (torch.nan if len(calls) > 3 else 1)

    monkeypatch.setattr(autoencoder_module, "kl_per_value", poisoned)
    monkeypatch.setattr(PhaseTraining, "validate", lambda _self: Validation())
    recipe = tiny.recipe(tiny.phase("single", "all", losses={"kl": 1e-6}))
    message = r"tiny-sd-vae single: loss is not finite at step 4 \(loss nan, l1 0\.\d+, kl nan\).*checkpoint-00000002"
    with pytest.raises(TrainingDiverged, match=message):
        tiny.train(tmp_path, tiny.sd_vae(), recipe, "single")
    (last,) = tmp_path.glob("single.state/*/checkpoint-*.pt")
    weights = read_checkpoint(last)["stateful"]["autoencoder"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nonsense"}, r"tiny-recipe has no phase 'nonsense': \['single', 'head'\]"),
        ({"name": "head"}, "phase head trains decoder-head only; it needs the weights of an earlier phase"),
        ({"name": "single", "resolution": 36}, "tiny-dc-ae with f8 cannot be trained at 36 px .*multiple of 8"),
        (
            {"name": "single", "gradient_accumulation": 3},
            "batch_size 4 cannot be split evenly over 1 process with 3 parts",
        ),
        (
            {"name": "single", "kl": 1e-6},
            "KL loss, but tiny-dc-ae has no posterior: .*variational: true",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(tiny, tmp_path, arguments, message):
    name, kl = (arguments.get(key) for key in ("name", "kl"))
    fields = {key: value for key, value in arguments.items() if key not in ("name", "kl")}
    single = tiny.phase("single", "all", losses={"kl": kl}, **fields)
    recipe = tiny.recipe(single, tiny.phase("head", "decoder-head"))
    with pytest.raises(ConfigError, match=message):
        tiny.train(tmp_path, tiny.dc_ae(), recipe, name)
    assert not (tmp_path / name).exists()


def test_the_start_is_part_of_the_identity(tiny, chain, tmp_path, capsys):
    """Other weights to start from give another training, even if nothing else differs."""
    recipe = tiny.recipe(*tiny.THREE_PHASES)
    a = tiny.weights(tiny.train(tmp_path, tiny.dc_ae(), recipe, REFINEMENT, chain[ADAPTATION]))
    b = tiny.weights(tiny.train(tmp_path, tiny.dc_ae(), recipe, REFINEMENT, chain[FULL]))
    assert any(not torch.equal(a[name], b[name]) for name in a)
    assert "differs in start; kept" in capsys.readouterr().out
