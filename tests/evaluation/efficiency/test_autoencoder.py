# SPDX-License-Identifier: Apache-2.0
"""Autoencoders and the end-to-end protocol on tiny models."""

import pytest
import torch

from dcae.benchmark import Config
from dcae.benchmark.config import ConfigError
from dcae.benchmark.entries import Tiling
from dcae.weights.catalogue import WeightsError
from evaluation.efficiency import autoencoder as of_autoencoders
from evaluation.efficiency import end_to_end, training
from evaluation.efficiency.autoencoder import profile_autoencoder, profile_phases, shapes_only
from evaluation.efficiency.cost import describe_autoencoder
from evaluation.efficiency.denoiser import DenoiserShape
from evaluation.efficiency.end_to_end import profile_end_to_end
from evaluation.efficiency.memory import NotEnoughMemory, Peaks
from evaluation.efficiency.text_encoder import RandomTextEncoder
from tests.evaluation.efficiency.tiny import CPU, changed

CONFIG = Config()
DC_AE = CONFIG.entry("autoencoders", "dc-ae-f32-demo")
SD_VAE = CONFIG.entry("autoencoders", "sd-vae-f8-demo")


@pytest.fixture(autouse=True)
def _a_known_matrix_product(monkeypatch):
    monkeypatch.setattr("evaluation.efficiency.profile.matrix_product_rate", lambda *arguments, **named: 1e15)


@pytest.mark.parametrize(("backend", "images"), [("eager", 2), ("onnxruntime", 1)])
def test_both_halves_of_an_autoencoder_are_measured(backend, images):
    protocol = changed(inference_backend=backend, autoencoder_pixels=images * 64 * 64)
    profile = profile_autoencoder(SD_VAE, 64, protocol)
    described = describe_autoencoder(SD_VAE, 64)
    assert profile.excluded == {}
    for half in ("encode", "decode"):
        assert profile.values[f"{half}_gmacs"].value == described[f"{half}_gmacs"]
        for name in ("images_per_second", "latency_ms", "peak_memory_gb", "peak_memory_gib", "utilisation"):
            assert profile.values[f"{half}_{name}"].value > 0
        assert profile.conditions[f"{half}_batch_size"] == images
    assert profile.values["encoder_parameters"].value == described["encoder_parameters"]


def test_what_does_not_fit_whole_is_measured_in_tiles(monkeypatch):
    original, calls = of_autoencoders.require_memory, []

    def require(needed, device):
        calls.append(needed)
        if len(calls) == 1:
            raise NotEnoughMemory("needs more than 1.0 GiB")
        original(needed, device)

    monkeypatch.setattr(of_autoencoders, "require_memory", require)
    protocol = changed(tiling=Tiling(tile=64, overlap=32), autoencoder_pixels=1)
    profile = profile_autoencoder(DC_AE, 128, protocol)
    assert "encode: in tiles of 64 px that overlap by 32; whole, it needs more than 1.0 GiB" in profile.remarks
    assert profile.excluded == {}
    assert calls[1] < calls[0]
    assert profile.values["encode_latency_ms"].value * profile.values[
        "encode_images_per_second"
    ].value == pytest.approx(1000)


def test_training_the_middle_layers_takes_less_memory():
    profile = profile_phases(DC_AE, 64, changed(phase_batch_size=4))
    full, middle = (profile.values[f"{name}_training_peak_gb"].value for name in ("full", "middle"))
    assert profile.values["full_to_middle"].value == pytest.approx(full / middle)
    assert full / middle > 2


def test_a_peak_that_does_not_fit_is_extrapolated_and_says_so(monkeypatch):
    def fits_up_to(most: int):
        def peaks(make, device):
            size = len(make().inputs[0])
            if size > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return Peaks(10**9 + 10**8 * size, 10**6)

        return peaks

    def profile(most: int):
        monkeypatch.setattr(of_autoencoders, "training_peaks", fits_up_to(most))
        return profile_phases(DC_AE, 32, changed(phase_batch_size=8))

    whole, partly = profile(8), profile(4)
    names = ("full_training_peak_gb", "middle_training_peak_gib")
    assert not any(whole.values[name].extrapolated for name in names)
    assert all(partly.values[name].extrapolated for name in names)
    assert all(partly.values[name].value == pytest.approx(whole.values[name].value) for name in names)
    assert "full_training_peak at batch size 8: extrapolated linearly from batch sizes 2 and 4" in partly.remarks[0]


def test_an_entry_that_is_known_by_its_weights_needs_an_architecture():
    flux = CONFIG.entry("autoencoders", "flux-vae")
    with pytest.raises(WeightsError, match="flux-vae is known by its released weights only"):
        shapes_only(flux)
    architecture = CONFIG.entry("suites", "paper").architectures["flux-vae-shift-ignored"]
    described = describe_autoencoder(shapes_only(flux, architecture), 256)
    assert described["parameters"] == 83_819_683  # of the file on the hub: 83.82 million
    assert shapes_only(DC_AE) is DC_AE


# --- end to end ---


@pytest.mark.parametrize(("name", "precision"), [("uvit-demo", "fp32"), ("dit-demo", "bf16"), ("pixart-demo", "bf16")])
def test_generation_takes_all_steps_with_guidance_and_training_encodes(name, precision):
    entry = CONFIG.entry("diffusion", name).model_copy(update={"sampling_steps": 4})
    classes = 0 if entry.conditioning == "caption" else 10
    profile = profile_end_to_end(
        DenoiserShape(entry, SD_VAE.latent_channels, 8, 2, classes),
        SD_VAE,
        CONFIG.entry("recipes", entry.recipe),
        changed(measures="end-to-end", repeats=2, precision=precision),
        text_encoder=entry.text_encoder,
    )
    values = profile.values
    assert profile.excluded == {}
    assert values["passes_per_image"].value == 2 * 4
    assert any("text encoder" in remark for remark in profile.remarks) == (name == "pixart-demo")
    assert values["generated_images_per_second"].value > 0
    assert 0 < values["decoding_share"].value < 1.5  # of two separate measurements
    assert values["training_with_encoding_images_per_second"].value > 0
    assert values["gmacs_per_generated_image"].value > describe_autoencoder(SD_VAE, 64)["decode_gmacs"]


def test_a_compiled_pipeline_is_checked_against_eager(monkeypatch):
    def compile_blocks(module):
        with torch.no_grad():
            next(module.parameters()).mul_(1.5)

    monkeypatch.setattr(end_to_end, "compile_blocks", compile_blocks)
    monkeypatch.setattr(training, "compile_blocks", compile_blocks)
    entry = CONFIG.entry("diffusion", "uvit-demo")
    profile = profile_end_to_end(
        DenoiserShape(entry, SD_VAE.latent_channels, 8, 2, 10),
        SD_VAE,
        CONFIG.entry("recipes", entry.recipe),
        changed(measures="end-to-end", training_backend="compile", inference_backend="compile"),
    )
    assert set(profile.excluded) == set(end_to_end.VALUES)
    assert all("differ from eager" in why for why in profile.excluded.values())


def test_a_text_encoder_is_made_in_its_precision_with_embeddings_of_the_right_shape():
    settings = CONFIG.entry("diffusion", "pixart-demo").text_encoder
    encoder = RandomTextEncoder(settings, torch.bfloat16, CPU)
    embeddings, mask = encoder(3)
    assert embeddings.shape == (3, settings.tokens, settings.config["d_model"])
    assert mask.all()
    assert embeddings.isfinite().all()
    assert {each.dtype for each in encoder.model.parameters()} == {torch.bfloat16}
    released = CONFIG.entry("diffusion", "pixart-xl").text_encoder
    with pytest.raises(ConfigError, match="give config"):
        RandomTextEncoder(released, torch.bfloat16, CPU)
